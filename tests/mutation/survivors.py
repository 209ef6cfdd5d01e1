"""Mutants of protocol/ that no test kills, and why none could or should."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Survivor:
    """A function, the lines that were changed, and what they were changed to."""

    where: str
    old: str
    new: str


_BIG = "Python 3.11 and later take the big end first where nothing is said."
_SET_BEFORE = "It is set before anybody reads it."
_FALSE = "None is as false as False."
_UNREACHABLE = "The line cannot be reached; it is there for the type checker."

EXPLAINED: Mapping[Survivor, str] = MappingProxyType(
    {
        Survivor(
            "auth.Authenticator.sign", 'state.update(counter.to_bytes(8, "big"))', "state.update(counter.to_bytes(8, ))"
        ): _BIG,
        Survivor(
            "auth.Authenticator.verify", 'wire = counter.to_bytes(8, "big")', "wire = counter.to_bytes(8, )"
        ): _BIG,
        Survivor("auth._prepare", "case _: assert_never(address)", ""): _UNREACHABLE,
        Survivor("auth._prepare", "assert_never(address)", "assert_never(None)"): _UNREACHABLE,
        Survivor(
            "packet.internet_checksum", 'total = int.from_bytes(data, "big")', "total = int.from_bytes(data, )"
        ): _BIG,
        Survivor(
            "seal.Seal.counter",
            'wire = (tick & _TICK_MASK).to_bytes(_TICK_BYTES, "big")',
            "wire = (tick & _TICK_MASK).to_bytes(_TICK_BYTES, )",
        ): _BIG,
        Survivor(
            "seal.Seal.counter",
            'return int.from_bytes(wire + self._tag(wire, advert), "big")',
            "return int.from_bytes(wire + self._tag(wire, advert), )",
        ): _BIG,
        Survivor(
            "seal.Seal.tick",
            'wire = counter.to_bytes(_TICK_BYTES + _TAG_BYTES, "big")',
            "wire = counter.to_bytes(_TICK_BYTES + _TAG_BYTES, )",
        ): _BIG,
        Survivor(
            "seal.Seal.tick",
            'return int.from_bytes(wire[:_TICK_BYTES], "big")',
            "return int.from_bytes(wire[:_TICK_BYTES], )",
        ): _BIG,
        Survivor("seal.Gate.refuse", "self._last.popitem(last=False)", "self._last.popitem(last=None)"): _FALSE,
        Survivor("machine.Group.handle", "case _: assert_never(event)", ""): _UNREACHABLE,
        Survivor("machine.Group.handle", "assert_never(event)", "assert_never(None)"): _UNREACHABLE,
        Survivor("machine.Group._of_the_vips", "case _: assert_never(event)", ""): _UNREACHABLE,
        Survivor("machine.Group._of_the_vips", "assert_never(event)", "assert_never(None)"): _UNREACHABLE,
        Survivor(
            "machine.Group._tick",
            "done += self._advertise(mastership, now)",
            "done = self._advertise(mastership, now)",
        ): "Nothing was wanted before it.",
        Survivor(
            "machine.Group._advert_as_master",
            "self._arm_down(now + self.master_down)",
            "self._arm_down(now - self.master_down)",
        ): "The lines after it set every timer; it is there for what comes with one.",
        Survivor("machine.Group._advert_as_backup", "ear.resting = False", "ear.resting = None"): _FALSE,
        Survivor(
            "machine.Group._advert_as_backup", "self._granted_extra = False", "self._granted_extra = None"
        ): _FALSE,
        Survivor(
            "machine.Group.__init__",
            'self._occupied_until, self._occupied_by = -math.inf, ""',
            'self._occupied_until, self._occupied_by = -math.inf, "XXXX"',
        ): _SET_BEFORE,
        Survivor(
            "machine.Group.__init__", "self._down_reason = Reason.MASTER_DOWN", "self._down_reason = None"
        ): _SET_BEFORE,
        Survivor("machine.Group.__init__", 'self._down_detail = ""', "self._down_detail = None"): _SET_BEFORE,
        Survivor("machine.Group.__init__", 'self._down_detail = ""', 'self._down_detail = "XXXX"'): _SET_BEFORE,
        Survivor("machine.Group.__init__", "self._granted_extra = False", "self._granted_extra = None"): _SET_BEFORE,
        Survivor("machine.Group.__init__", "self._granted_extra = False", "self._granted_extra = True"): _SET_BEFORE,
        Survivor("machine.Group.__init__", "self._stopping = False", "self._stopping = None"): _FALSE,
        Survivor("machine.Group.__init__", "self._says_goodbye = False", "self._says_goodbye = None"): _SET_BEFORE,
        Survivor("machine.Group.__init__", "self._says_goodbye = False", "self._says_goodbye = True"): _SET_BEFORE,
        Survivor("machine.Group.__init__", "self._sealed = False", "self._sealed = None"): _SET_BEFORE,
        Survivor("machine.Group.__init__", "self._sealed = False", "self._sealed = True"): _SET_BEFORE,
        Survivor(
            "machine.Group._listen_anew", "self._ears.begin(math.inf)", "self._ears.begin(None)"
        ): "The line after it sets every timer.",
        Survivor("machine.Group._arm_down", "self._granted_extra = False", "self._granted_extra = None"): _FALSE,
        Survivor("mastership.Mastership.begin_lease", "self.leased = False", "self.leased = None"): _FALSE,
        Survivor(
            "machine.Group._stand_up_in_turn", "if due < self._ears.down_at:", "if due <= self._ears.down_at:"
        ): "Where both end at the same moment, the node stands up then in either case; only the reason differs.",
        Survivor(
            "mastership.Mastership.advertise",
            "self._next_advert = now + self._interval - (late if 0 <= late < self._interval / 2 else 0.0)",
            "self._next_advert = now + self._interval - (late if 0 < late < self._interval / 2 else 0.0)",
        ): "Where nothing is late, nothing is taken off.",
        Survivor(
            "mastership.Mastership._await_answer",
            "self._next_renewal = now + seldom if self._interval < seldom else now",
            "self._next_renewal = now + seldom if self._interval <= seldom else now",
        ): "The next regular advert renews in either case.",
    }
)
"""By mutant: the reason."""
