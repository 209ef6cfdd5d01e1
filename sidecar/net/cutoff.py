"""The lease in milliseconds: nftables makes this node silent about a VIP from the moment at which its element expires.

A table of our own in the families arp and inet, with two sets. What bears a VIP that is ``managed`` and not ``live`` is
dropped: ARP that names it as its sender, so that no question is answered and no cache of a neighbour is moved; packets
from it, neighbour advertisements among them; packets to it. ARP and ND of others come in, so that this node hears at
once who has the VIP now. Nothing is ever accepted, and no table of anybody else is touched.

Both sets let go by themselves, ``live`` first: a table that outlives its processes ends up as an empty shell that drops
nothing. Between the two ends, the address itself goes, which has a lifetime in seconds.

The kernel counts in ticks (1 to 10 ms) and rounds down: a lease ends up to two ticks early and never late. It reaches
what the node itself sends and receives; packets that a DNAT rule (kube-proxy with the VIP as an external IP) or eBPF
(Cilium) leads to another address before they are delivered are stopped only by the silence of ARP and ND.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from types import TracebackType

from sidecar.net import nft
from sidecar.net.nft import Batch, Message, Nft, NftError
from sidecar.protocol.types import IPAddress

_TABLE = "carp-sidecar"
_MANAGED, _LIVE = "managed", "live"
_GUARD_MS, _GUARD_AT_LEAST = 30_000, 20.0
"""How much longer a VIP is managed than live (ms), and what may be left of that (s) before a renewal includes it."""

_FIRST = -1000
"""Priority: before all usual ones (raw -300, filter 0), since a firewall that rejects would answer for the VIP."""
_ARP_OUTPUT, _INET_INPUT, _INET_OUTPUT = 1, 1, 3
"""NF_ARP_OUT, NF_INET_LOCAL_IN, NF_INET_LOCAL_OUT."""
_SET_TIMEOUT = 0x10
_COLLECT_EVERY_MS = 50
"""How often expired leases are swept. 16 of one VIP, as a starved node piles them up in a second, make it EBUSY."""
_SET_TYPES = {4: 7, 6: 8}
"""nft's own numbers for ipv4_addr and ipv6_addr, so that it can list our sets."""
_PROTOCOLS = {4: 2, 6: 10}
_ADDRESS_SIZES = {4: 4, 6: 16}
_FAMILIES = {4: (nft.FAMILY_ARP, nft.FAMILY_INET), 6: (nft.FAMILY_INET,)}
"""The families that have sets for an IP version."""
_REGISTER, _VERDICT_REGISTER = 1, 0
_NETWORK_HEADER, _META_PROTOCOL = 1, 15
_ELEMENTS_AT_MOST = 1000
"""In one message: an attribute is at most 64 KiB long."""
_CLOCK_MONOTONIC_COARSE = 6


class CutoffError(Exception):
    """The kernel refused; the message says what and why, in one line."""


class CutoffLostError(CutoffError):
    """Our table or a set of it is gone, as after ``nft flush ruleset``: call ``install`` again."""


@dataclass(slots=True, kw_only=True)
class _Renewal:
    """The request that renews, made once, and when the VIPs stop being managed (s, monotonic)."""

    milliseconds: int
    request: Batch
    managed_until: float


class Cutoff:
    """The table of one sidecar. ``suffix`` keeps the tables of several on one node apart.

    Use as a context manager or call ``close``, which leaves the table as it is; ``remove`` deletes it. Its socket opens
    at first use and stays with the network namespace of that moment.
    """

    __slots__ = ("_nft", "_renewals", "table")

    def __init__(self, suffix: str = "", *, kernel: Nft | None = None) -> None:
        self.table = f"{_TABLE}-{suffix}" if suffix else _TABLE
        self._nft = kernel or Nft()
        self._renewals: dict[tuple[IPAddress, ...], _Renewal] = {}

    def __enter__(self) -> Cutoff:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket; leases run on to their ends."""
        self._nft.close()

    def available(self) -> str | None:
        """Return None where this works, else why not in a few words. All is tried and nothing is changed."""
        try:
            self._nft.run(nft.batch([*self._removal(), *self._creation()], commit=False))
        except NftError as error:
            match error.code:
                case errno.EPERM:
                    return "no permission: it takes the capability NET_ADMIN"
                case errno.EOPNOTSUPP if error.what == nft.WHOLE:
                    return "the kernel has no nf_tables"
                case _:
                    return f"the kernel's nf_tables refuses {error}"
        except OSError as error:
            return f"netfilter cannot be asked: {error.strerror}"
        return None

    def install(self, vips: Sequence[IPAddress], *, live: Mapping[IPAddress, int] | None = None) -> None:
        """Make the table anew with these VIPs, in one step: a leftover of an earlier life is replaced, not added to.

        ``live`` maps those that go on being live to their milliseconds, as ``remaining`` returned them; the others are
        silent from now on. Raises CutoffError.
        """
        self._renewals.clear()
        going_on = {vip: left for vip, left in (live or {}).items() if left >= tick_ms()}
        messages = [*self._removal(), *self._creation(), *self._set_elements(nft.NEWSETELEM, _MANAGED, vips, _GUARD_MS)]
        for vip, left in going_on.items():
            messages += self._set_elements(nft.NEWSETELEM, _LIVE, [vip], left)
            messages += self._prolonged(_MANAGED, [vip], left + _GUARD_MS)
        self._run(nft.batch(messages))

    def renew(self, vips: Sequence[IPAddress], milliseconds: int) -> None:
        """Make all of these live for so long from now on, whether they were or not: all or none.

        Raises CutoffLostError if there is no table, CutoffError otherwise, also for less than a tick.
        """
        key = tuple(vips)
        renewal = self._renewals.get(key)
        if renewal is None or renewal.milliseconds != milliseconds:
            managed_until = renewal.managed_until if renewal else 0.0
            renewal = self._renewals[key] = self._renewal(key, milliseconds, managed_until)
        ends = time.monotonic() + milliseconds / 1000
        if ends + _GUARD_AT_LEAST < renewal.managed_until:
            self._run_again(renewal.request)
            return
        managed = self._prolonged(_MANAGED, key, milliseconds + _GUARD_MS)
        self._run_again(nft.batch([*managed, *self._prolonged(_LIVE, key, milliseconds)]))
        renewal.managed_until = ends + _GUARD_MS / 1000

    def release(self, vips: Sequence[IPAddress]) -> None:
        """Make these silent at once, and for a while; they need not be live. Raises as ``renew`` does."""
        self._renewals.pop(tuple(vips), None)  # when they stop being managed is another moment from now on
        # Adding comes first, since the kernel refuses to delete what is not there.
        kinds = (nft.NEWSETELEM, nft.DELSETELEM)
        silenced = [each for kind in kinds for each in self._set_elements(kind, _LIVE, vips, _GUARD_MS)]
        self._run_again(nft.batch([*self._prolonged(_MANAGED, vips, _GUARD_MS), *silenced]))

    def remove(self) -> None:
        """Delete our table, if there is one. Raises CutoffError."""
        self._renewals.clear()
        self._run(nft.batch([*self._removal()]))

    def remaining(self, vips: Sequence[IPAddress]) -> dict[IPAddress, int]:
        """Return how many milliseconds are left to those of these VIPs that are live. Raises CutoffError."""
        found = self._elements(self.table, _LIVE)
        return {vip: found[vip] for vip in vips if vip in found}

    def sweep(self, vips: Sequence[IPAddress]) -> list[str]:
        """Delete what earlier lives with another ``suffix`` left, which would go on to silence one of these VIPs.

        Return the tables' names. Another sidecar's manages its own VIPs. Raises CutoffError.
        """
        prefix, swept = f"{_TABLE}-", []
        everything = Message(kind=nft.GETTABLE, family=nft.FAMILY_INET, attributes=b"", what="the tables")
        for answer in self._dump(everything):
            name = nft.attributes(answer)[1].rstrip(b"\0").decode(errors="replace")
            if name == self.table or not (name == _TABLE or name.startswith(prefix)):
                continue
            if self._elements(name, _MANAGED).keys() & set(vips):
                self._run(nft.batch([*self._removal(name)]))
                swept.append(name)
        return swept

    def _elements(self, table: str, name: str) -> dict[IPAddress, int]:
        """Return the elements of a table's sets of that name, and the milliseconds left to each."""
        found: dict[IPAddress, int] = {}
        for version in _FAMILIES:
            attributes = nft.text(1, table) + nft.text(2, f"{name}{version}")
            wanted = Message(
                kind=nft.GETSETELEM, family=nft.FAMILY_INET, attributes=attributes, what=f"set {name}{version}"
            )
            found.update(left for answer in self._dump(wanted) for left in _elements_left(answer))
        return found

    def _dump(self, wanted: Message) -> list[bytes]:
        """Return what the kernel lists, nothing where there is no such thing. Raises CutoffError."""
        try:
            return self._nft.dump(wanted)
        except NftError as error:
            if error.code == errno.ENOENT:
                return []
            raise CutoffError(f"nftables cannot be read: {error}") from error
        except OSError as error:
            raise CutoffError(f"nftables cannot be read: {error.strerror}") from error

    # Asking ------------------------------------------------------------------------------------------------------

    def _run(self, wanted: Batch) -> None:
        try:
            self._nft.run(wanted)
        except NftError as error:
            if error.code == errno.ENOENT:
                raise CutoffLostError(f"nftables table {self.table} is not whole: no {error.what}") from error
            raise CutoffError(f"nftables table {self.table}: the kernel refused {error}") from error
        except OSError as error:
            raise CutoffError(f"nftables table {self.table}: the kernel cannot be asked: {error.strerror}") from error

    def _run_again(self, wanted: Batch) -> None:
        """Run a batch that adds, then deletes: before Linux 6.8, what is there can expire in between, but not twice."""
        try:
            self._run(wanted)
        except CutoffLostError:
            self._run(wanted)

    def _renewal(self, vips: Sequence[IPAddress], milliseconds: int, managed_until: float) -> _Renewal:
        if milliseconds < tick_ms():
            # The kernel would round it down to 0, which it takes for "for ever".
            raise CutoffError(f"a lease of {milliseconds} ms is shorter than the kernel's tick of {tick_ms():g} ms")
        request = nft.batch(self._prolonged(_LIVE, vips, milliseconds))
        return _Renewal(milliseconds=milliseconds, request=request, managed_until=managed_until)

    # Messages ----------------------------------------------------------------------------------------------------

    def _removal(self, table: str = "") -> Iterator[Message]:
        """Delete both tables. Creating comes first, since the kernel refuses to delete what is not there."""
        name = table or self.table
        for family in (nft.FAMILY_ARP, nft.FAMILY_INET):
            for kind in (nft.NEWTABLE, nft.DELTABLE):
                what = f"table {_family_name(family)} {name}"
                yield Message(kind=kind, family=family, attributes=nft.text(1, name), what=what)

    def _creation(self) -> Iterator[Message]:
        for family in (nft.FAMILY_ARP, nft.FAMILY_INET):
            yield self._message(nft.NEWTABLE, family, f"table {_family_name(family)} {self.table}")
        number = 0
        for version, families in _FAMILIES.items():
            for family in families:
                for name in (_MANAGED, _LIVE):
                    number += 1
                    yield self._set(family, name, version, number)
        yield self._chain(nft.FAMILY_ARP, "output", _ARP_OUTPUT)
        yield self._chain(nft.FAMILY_INET, "input", _INET_INPUT)
        yield self._chain(nft.FAMILY_INET, "output", _INET_OUTPUT)
        # Where the address is in the header: ARP's sender, then IPv4's and IPv6's destination and source.
        yield self._rule(nft.FAMILY_ARP, "output", 4, 14)
        yield self._rule(nft.FAMILY_INET, "input", 4, 16)
        yield self._rule(nft.FAMILY_INET, "input", 6, 24)
        yield self._rule(nft.FAMILY_INET, "output", 4, 12)
        yield self._rule(nft.FAMILY_INET, "output", 6, 8)

    def _message(self, kind: int, family: int, what: str, attributes: bytes = b"") -> Message:
        return Message(kind=kind, family=family, attributes=nft.text(1, self.table) + attributes, what=what)

    def _set(self, family: int, name: str, version: int, number: int) -> Message:
        attributes = (
            nft.text(2, f"{name}{version}")
            + nft.number(3, _SET_TIMEOUT)
            + nft.number(4, _SET_TYPES[version])
            + nft.number(5, _ADDRESS_SIZES[version])
            + nft.number(10, number)
            + (nft.number(12, _COLLECT_EVERY_MS) if name == _LIVE else b"")
        )
        return self._message(nft.NEWSET, family, f"set {name}{version}", attributes)

    def _chain(self, family: int, name: str, hook: int) -> Message:
        attributes = (
            nft.text(3, name) + nft.nested(4, nft.number(1, hook), nft.number(2, _FIRST)) + nft.text(7, "filter")
        )
        return self._message(nft.NEWCHAIN, family, f"chain {_family_name(family)} {name}", attributes)

    def _rule(self, family: int, chain: str, version: int, offset: int) -> Message:
        """Drop what has a managed address that is not live at ``offset`` of its network header (ARP: of its header)."""
        of_the_version = [nft.meta(_META_PROTOCOL), nft.compare(bytes([_PROTOCOLS[version]]))]
        expressions = [
            *([] if family == nft.FAMILY_ARP else of_the_version),
            nft.payload(_NETWORK_HEADER, offset=offset, size=_ADDRESS_SIZES[version]),
            nft.lookup(f"{_MANAGED}{version}"),
            nft.lookup(f"{_LIVE}{version}", inverted=True),
            nft.drop(),
        ]
        attributes = nft.text(2, chain) + nft.nested(4, *expressions)
        return self._message(nft.NEWRULE, family, f"rule {_family_name(family)} {chain}", attributes)

    def _prolonged(self, name: str, vips: Sequence[IPAddress], milliseconds: int) -> list[Message]:
        """Give elements a new time to live, whether they are there or not.

        Linux before 6.12 leaves the time of one that is there as it is; so it is deleted and added, which takes one
        that is there. A batch changes all at once: no packet sees it missing.
        """
        kinds = (nft.NEWSETELEM, nft.DELSETELEM, nft.NEWSETELEM)
        return [each for kind in kinds for each in self._set_elements(kind, name, vips, milliseconds)]

    def _set_elements(self, kind: int, name: str, vips: Sequence[IPAddress], milliseconds: int) -> Iterator[Message]:
        time_to_live = nft.number(4, milliseconds, size=8)
        for version, families in _FAMILIES.items():
            elements = [
                nft.nested(1, nft.value(1, vip.packed), time_to_live)
                for vip in dict.fromkeys(vips)
                if vip.version == version
            ]
            for family in families:
                for at in range(0, len(elements), _ELEMENTS_AT_MOST):
                    some = nft.nested(3, *elements[at : at + _ELEMENTS_AT_MOST])
                    yield self._message(kind, family, f"set {name}{version}", nft.text(2, f"{name}{version}") + some)


def tick_ms() -> float:
    """Return the kernel's tick in milliseconds: leases end on one (``CONFIG_HZ``, as clock_getres(2) shows it)."""
    return time.clock_getres(_CLOCK_MONOTONIC_COARSE) * 1000


def _family_name(family: int) -> str:
    return "arp" if family == nft.FAMILY_ARP else "inet"


def _elements_left(answer: bytes) -> Iterator[tuple[IPAddress, int]]:
    """Read address and milliseconds left of each element in a message of a set's dump."""
    for _, element in nft.each_attribute(nft.attributes(answer).get(3, b"")):
        fields = nft.attributes(element)
        key = nft.attributes(fields[1])[1]
        yield ip_address(key), int.from_bytes(fields.get(5, b""), "big")
