"""The seal: replay protection inside CARP's 64-bit counter, which every implementation treats as opaque.

Layout of the counter, big-endian on the wire: 40 bits of the sender's wall clock in 1/256 s since 1970, never repeated
and never lower; then the first 24 bits of HMAC-SHA256 under the group's 20-byte key over what CARP's own HMAC leaves
out::

    "carp-sidecar seal 1" | vhid (1) | source (4 or 16) | advbase (1) | advskew (1) | demotion (1) | the 40 bits (5)

The lengths in bytes; a source's length tells its family. To ucarp and the BSDs it is a counter like any other.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from cryptography.hazmat.primitives.constant_time import bytes_eq
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

from sidecar.protocol.types import DropReason, IPAddress

TICKS_PER_SECOND = 256
SENDERS_AT_MOST = 1024
"""Senders whose last counter is kept; each of them has proved that it has the key."""

_LABEL = b"carp-sidecar seal 1"
_TAG_BYTES, _TICK_BYTES = 3, 5
_TICK_MASK = (1 << 8 * _TICK_BYTES) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """What a seal covers of one advert; the numbers as on the wire."""

    source: IPAddress
    advbase: int
    advskew: int
    demotion: int


class Seal:
    """Makes and breaks the seals of one group. ``key`` is 20 bytes."""

    __slots__ = ("_prepared",)

    def __init__(self, *, key: bytes, vhid: int) -> None:
        self._prepared = HMAC(key, SHA256())
        self._prepared.update(_LABEL + bytes((vhid,)))

    def counter(self, tick: int, advert: Sealed) -> int:
        """Return the 64-bit counter of an advert that is sent at ``tick`` (1/256 s since 1970)."""
        wire = (tick & _TICK_MASK).to_bytes(_TICK_BYTES, "big")
        return int.from_bytes(wire + self._tag(wire, advert), "big")

    def tick(self, counter: int, advert: Sealed) -> int | None:
        """Return when the advert was sealed (1/256 s since 1970), or None if the seal is broken; in constant time."""
        wire = counter.to_bytes(_TICK_BYTES + _TAG_BYTES, "big")
        if not bytes_eq(wire[_TICK_BYTES:], self._tag(wire[:_TICK_BYTES], advert)):
            return None
        return int.from_bytes(wire[:_TICK_BYTES], "big")

    def _tag(self, tick: bytes, advert: Sealed) -> bytes:
        state = self._prepared.copy()
        state.update(advert.source.packed + bytes((advert.advbase, advert.advskew, advert.demotion)) + tick)
        return state.finalize()[:_TAG_BYTES]


class Ticker:
    """The clock of a sender's seals: ticks that never repeat, never step back, and go on at the pace of real time.

    It takes the wall clock's word only when it is anchored, so that a step in between moves no tick.
    """

    __slots__ = ("_base", "_base_at", "_last")

    def __init__(self) -> None:
        self._last = -1
        self._base = 0
        self._base_at = 0.0

    def anchor(self, *, wall: float, now: float) -> None:
        """Go on from the wall clock (Unix seconds) at ``now`` (monotonic seconds), unless that would be a step back."""
        self._base = max(self._last + 1, int(wall * TICKS_PER_SECOND))
        self._base_at = now

    def next(self, now: float) -> int:
        """Return the tick for the next advert, sent at ``now`` (monotonic seconds)."""
        self._last = max(self._last + 1, self._base + int((now - self._base_at) * TICKS_PER_SECOND))
        return self._last


class Gate:
    """Lets each sealed advert of each sender pass once, in order, and near its time.

    Near is ``allowed_skew`` seconds from this node's wall clock; for a sender that passed before, also from where its
    own ticks must have come since, so that a step of either wall clock shuts nobody out.
    """

    __slots__ = ("_allowed", "_last")

    def __init__(self, *, allowed_skew: float) -> None:
        self._allowed = allowed_skew * TICKS_PER_SECOND
        self._last: OrderedDict[IPAddress, tuple[int, float]] = OrderedDict()

    def refuse(self, tick: int | None, *, source: IPAddress, wall: float, now: float) -> DropReason | None:
        """Judge an advert whose seal said ``tick``; return why it must be dropped, or None and remember it.

        ``wall`` is in Unix seconds, ``now`` in monotonic ones.
        """
        if tick is None:
            return DropReason.BROKEN_SEAL
        expected = [wall * TICKS_PER_SECOND]
        if source in self._last:
            last, heard_at = self._last[source]
            if tick <= last:
                return DropReason.REPLAYED
            expected.append(last + (now - heard_at) * TICKS_PER_SECOND)
        if all(abs(tick - each) > self._allowed for each in expected):
            return DropReason.CLOCK_SKEW
        self._last[source] = (tick, now)
        self._last.move_to_end(source)
        if len(self._last) > SENDERS_AT_MOST:
            self._last.popitem(last=False)
        return None
