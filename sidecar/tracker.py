"""Who is master of what on a wire: adverts in, changes in words out. Pure: ``now`` is an argument.

Peers are hostile: at most ``MAX_SENDERS`` are remembered, and what does not verify never changes what is said of
senders that do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address

from sidecar.capture.vrrp import WireProtocol
from sidecar.decode import Record
from sidecar.protocol.timing import interval
from sidecar.protocol.types import BOW_OUT, LET_GO, DropReason

MAX_SENDERS = 1024
FORGOTTEN_AFTER = 300.0
"""Seconds after which a sender that is gone is new again."""
SILENT_INTERVALS = 3
SHORTEST_SILENCE = 1.0
"""Seconds: this process may itself be late, and at fast timing three intervals are milliseconds."""


@dataclass(frozen=True, slots=True)
class Change:
    """Something new on an interface, in one line without control characters."""

    interface: str
    text: str


@dataclass(frozen=True, slots=True)
class _GroupKey:
    """A group as one sees it from outside; adverts that fail the HMAC make a group of their own beside the true one."""

    interface: str
    vhid: int
    version: int
    genuine: bool

    def change(self, text: str) -> Change:
        forged = "" if self.genuine else " (NOT authentic)"
        return Change(self.interface, f"vhid {self.vhid}{forged}: {text}")


@dataclass(frozen=True, slots=True)
class _StrangerKey:
    interface: str
    source: str | None
    vhid: int | None
    what: str


@dataclass(frozen=True, slots=True)
class _Advert:
    """A whole advert that is refused for its HMAC at most; ``timing`` is advbase, advskew and demotion."""

    source: str
    vhid: int
    timing: tuple[int, int, int]
    authentic: bool | None


@dataclass(slots=True)
class _Master:
    """One sender of a group's adverts; ``live`` until it says goodbye or is silent."""

    timing: tuple[int, int, int]
    verified: bool
    last: float
    live: bool = False
    adverts: int = 0
    """Since the newest rival came up."""

    @property
    def insistent(self) -> bool:
        """One advert is not enough: ucarp sends one more before it yields."""
        return self.adverts >= 2

    @property
    def silent_at(self) -> float:
        silence = SILENT_INTERVALS * interval(advbase=self.timing[0], advskew=self.timing[1])
        return self.last + max(silence, SHORTEST_SILENCE)

    @property
    def deadline(self) -> float:
        return self.silent_at if self.live else self.last + FORGOTTEN_AFTER


@dataclass(slots=True)
class _Group:
    masters: dict[str, _Master] = field(default_factory=dict)
    """By source address."""
    newest: str | None = None
    """The live one that came up last."""
    contested: frozenset[str] = frozenset()
    """Those of whom was said that they are masters at once."""

    def live(self) -> list[str]:
        return [source for source, master in self.masters.items() if master.live]


class Tracker:
    """Remembers the senders on all interfaces; each call returns what changed with it."""

    __slots__ = ("_full", "_groups", "_strangers")

    def __init__(self) -> None:
        self._groups: dict[_GroupKey, _Group] = {}
        self._strangers: dict[_StrangerKey, float] = {}
        """Senders of what receivers drop, and of other protocols: when they were last heard."""
        self._full = False

    def heard(self, interface: str, protocol: WireProtocol, record: Record, now: float) -> list[Change]:
        """Take one packet; ``now`` is in seconds and never goes back."""
        advert = _advert(record) if protocol is WireProtocol.CARP else None
        if advert is None:
            return self._stranger(interface, protocol, record, now)
        key = _GroupKey(interface, advert.vhid, ip_address(advert.source).version, record.reason is None)
        return self._advert(key, advert, now)

    def tick(self, now: float) -> list[Change]:
        """Say who has fallen silent, and forget who is long gone."""
        changes = []
        for key, group in list(self._groups.items()):
            for source, master in list(group.masters.items()):
                if master.live and now >= master.deadline:
                    changes += self._silent(key, group, source, now)
                if not master.live and now >= master.deadline:
                    del group.masters[source]
            if not group.masters:
                del self._groups[key]
        for stranger in [each for each, last in self._strangers.items() if now >= last + FORGOTTEN_AFTER]:
            del self._strangers[stranger]
        if self._size() < MAX_SENDERS:
            self._full = False
        return changes

    def deadline(self) -> float | None:
        """Return when ``tick`` is due, None for never."""
        return min(self._deadlines(), default=None)

    def _deadlines(self) -> Iterator[float]:
        for group in self._groups.values():
            for master in group.masters.values():
                yield master.deadline
        for last in self._strangers.values():
            yield last + FORGOTTEN_AFTER

    # Adverts -----------------------------------------------------------------------------------------------------

    def _advert(self, key: _GroupKey, advert: _Advert, now: float) -> list[Change]:
        known = self._groups[key].masters.get(advert.source) if key in self._groups else None
        new = known is None
        if known is None:
            verified = advert.authentic is True
            refused = self._make_room(key.interface, verified=verified)
            if refused is not None:
                return refused
            known = _Master(timing=advert.timing, verified=verified, last=now)
            self._groups.setdefault(key, _Group()).masters[advert.source] = known
        group = self._groups[key]
        before, known.timing, known.last = known.timing, advert.timing, now
        if advert.timing[0] == BOW_OUT and advert.timing[1] >= LET_GO:
            return self._goodbye(key, group, advert.source) if known.live or new else []
        if not known.live:
            return [self._comes_up(key, group, advert)]
        known.adverts += 1
        changed = advert.timing != before
        changes = [key.change(f"{advert.source} changes {_difference(before, advert.timing)}")] if changed else []
        return changes + self._contest(key, group)

    def _comes_up(self, key: _GroupKey, group: _Group, advert: _Advert) -> Change:
        source = advert.source
        rivals, predecessor = group.live(), group.newest
        for each in rivals:
            group.masters[each].adverts = 0
        master = group.masters[source]
        master.live, master.adverts, group.newest = True, 1, source
        advbase, advskew, demotion = master.timing
        verdict = {
            True: "authentic",
            False: "the password or the list of VIPs differs",
            None: "authenticity not checked",
        }[advert.authentic]
        after = f" after {predecessor}" if predecessor is not None and predecessor != source else ""
        return key.change(
            f"{source} is master{after}: advbase {advbase} advskew {advskew} demotion {demotion}, {verdict}"
        )

    def _contest(self, key: _GroupKey, group: _Group) -> list[Change]:
        """Say once that several go on advertising."""
        insistent = frozenset(source for source in group.live() if group.masters[source].insistent)
        if len(insistent) < 2 or insistent <= group.contested:
            return []
        group.contested = insistent
        return [key.change(f"{len(insistent)} MASTERS at once: {', '.join(sorted(insistent))}")]

    def _goodbye(self, key: _GroupKey, group: _Group, source: str) -> list[Change]:
        return [key.change(f"{source} says goodbye{self._leave(group, source)}")]

    def _silent(self, key: _GroupKey, group: _Group, source: str, now: float) -> list[Change]:
        expected = (
            source != group.newest and source not in group.contested
        )  # another one has taken over, and it has yielded
        said = f"{source} is silent, last heard {now - group.masters[source].last:.1f} s ago"
        said += self._leave(group, source)
        return [] if expected else [key.change(said)]

    def _leave(self, group: _Group, source: str) -> str:
        """Note that a master is gone; return what has to be added about those who stay.

        Who has not gone on advertising beside the newest master has yielded to it, and is news if it comes back.
        """
        group.masters[source].live = False
        if source == group.newest:
            for each in group.live():
                group.masters[each].live = group.masters[each].insistent
        rest = group.live()
        told = source == group.newest or source in group.contested
        if source == group.newest and rest:
            group.newest = rest[-1]
        group.contested = group.contested - {source} if len(rest) > 1 else frozenset()
        return f"; still advertising: {', '.join(sorted(rest))}" if rest and told else ""

    # What is no advert of a group, and memory ----------------------------------------------------------------------

    def _stranger(self, interface: str, protocol: WireProtocol, record: Record, now: float) -> list[Change]:
        what = f"drops: {record.reason}" if protocol is WireProtocol.CARP else protocol.value
        key = _StrangerKey(interface, record.source, record.vhid, what)
        if key in self._strangers:
            self._strangers[key] = now
            return []
        refused = self._make_room(interface, verified=False)
        if refused is not None:
            return refused
        self._strangers[key] = now
        source = record.source or "an unknown sender"
        vhid = "-" if record.vhid is None else record.vhid
        if protocol is WireProtocol.CARP:
            return [Change(interface, f"vhid {vhid}: {source} sends what receivers drop: {record.reason}")]
        return [Change(interface, f"{protocol} router {vhid}: {source} is master; not CARP, left alone")]

    def _make_room(self, interface: str, *, verified: bool) -> list[Change] | None:
        """Return None if one more sender can be remembered, else what to say of it, once until there is room."""
        if self._size() < MAX_SENDERS or (verified and self._evict()):
            return None
        if self._full:
            return []
        self._full = True
        return [Change(interface, f"{MAX_SENDERS} senders are remembered, which is the most: new ones are left out")]

    def _size(self) -> int:
        return len(self._strangers) + sum(len(group.masters) for group in self._groups.values())

    def _evict(self) -> bool:
        """Forget one sender whose word is worth less than a verified one's, if there is any."""
        if self._strangers:
            del self._strangers[min(self._strangers, key=self._strangers.__getitem__)]
            return True
        for key, group in self._groups.items():
            for source, master in group.masters.items():
                if not master.verified:
                    del group.masters[source]
                    if group.newest == source:
                        group.newest = None
                    if not group.masters:
                        del self._groups[key]
                    return True
        return False


def _advert(record: Record) -> _Advert | None:
    """Return what ``record`` says, None if it lacks a field or has another fault than a wrong HMAC."""
    if record.reason not in {None, DropReason.BAD_HMAC} or record.source is None or record.vhid is None:
        return None
    if record.advbase is None or record.advskew is None or record.demotion is None:
        return None
    timing = (record.advbase, record.advskew, record.demotion)
    return _Advert(record.source, record.vhid, timing, record.authentic)


def _difference(before: tuple[int, int, int], after: tuple[int, int, int]) -> str:
    names = ("advbase", "advskew", "demotion")
    changed = [f"{n} {old} -> {new}" for n, old, new in zip(names, before, after, strict=True) if old != new]
    return ", ".join(changed)
