"""Who answers for the VIPs: asked before the first bind, and asked again as a proof of each announcement. Pure."""

from __future__ import annotations

import enum
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from sidecar.net.inquiry import Answer
from sidecar.protocol.types import IPAddress

SCOUT_AT_LEAST, SCOUT_AT_MOST = 0.1, 1.0
"""Seconds between two questions before the first bind: an interval of the group, within these."""
OCCUPIED_FOR = 2.5
"""So many of these an answer counts."""
ROUNDS, ROUND_SPACING = 3, 0.4
"""How often it is asked after an announcement, and every how many seconds."""
AT_ONCE, NEXT_LOT = 32, 0.005
"""Questions in one go, and seconds until the next ones: the loop has other things to do."""
AGAIN_AT_MOST = 3
"""Announcements in a row because of somebody else who answers; after that, the regular ones have to do."""


class Proof(enum.StrEnum):
    """What is known of the LAN's idea of where the VIPs are."""

    CONFIRMED = "confirmed"
    """A neighbour's answer to each VIP came here, and nobody else answers for any."""
    CONTESTED = "contested"
    """Somebody else answers for a VIP."""
    UNKNOWN = "unknown"
    """Nobody else answers, but no neighbour said anything either."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask who has ``target``: in nobody's name, or in that of ``sender``, a VIP."""

    target: IPAddress
    sender: IPAddress | None = None


class Scout:
    """Asks who has the VIPs while a node that knows no master listens. ``interval`` is between the group's adverts."""

    __slots__ = ("_next", "spacing")

    def __init__(self, now: float, *, interval: float) -> None:
        self.spacing = min(max(interval, SCOUT_AT_LEAST), SCOUT_AT_MOST)
        self._next = now

    @property
    def deadline(self) -> float:
        """When it asks next."""
        return self._next

    def due(self, now: float, vips: Sequence[IPAddress]) -> list[Ask]:
        """Return what to ask now."""
        if now < self._next:
            return []
        self._next = now + self.spacing
        return [Ask(vip) for vip in vips]


class Verdict:
    """What became of the announcements of one mastership; ``announced`` begins to ask."""

    __slots__ = (
        "_again",
        "_before",
        "_confirmed",
        "_contested",
        "_next",
        "_queue",
        "_rounds",
        "_vips",
        "_wants_another",
    )

    def __init__(self, vips: Sequence[IPAddress]) -> None:
        self._vips = tuple(vips)
        self._rounds = 0
        self._next = math.inf
        self._queue: deque[Ask] = deque()
        self._contested: dict[IPAddress, bytes] = {}
        self._confirmed: set[IPAddress] = set()
        self._before = Proof.UNKNOWN, tuple[tuple[IPAddress, bytes], ...]()
        self._again = 0
        self._wants_another = False

    @property
    def deadline(self) -> float:
        """When something is due."""
        return self._next

    @property
    def proof(self) -> Proof:
        """What is known now: what was found since the last announcement, or before it while that is being asked."""
        if self._contested:
            return Proof.CONTESTED
        if self._asking and self._before[0] is Proof.CONTESTED:
            return Proof.CONTESTED
        if self._confirmed.issuperset(self._vips):
            return Proof.CONFIRMED
        return self._before[0] if self._asking else Proof.UNKNOWN

    @property
    def others(self) -> tuple[tuple[IPAddress, bytes], ...]:
        """Who else answers, VIP by VIP, as of ``proof``."""
        if self._contested or not self._asking:
            return tuple(self._contested.items())
        return self._before[1]

    def announced(self, now: float) -> None:
        """Begin to ask: the LAN was just told."""
        self._before = self.proof, self.others
        self._contested.clear()
        self._confirmed.clear()
        self._queue.clear()
        self._rounds, self._next = ROUNDS, now

    def due(self, now: float, neighbours: Sequence[IPAddress]) -> list[Ask]:
        """Return what to ask now. Neighbours of a VIP's own IP version are asked for the way to it."""
        if now < self._next:
            return []
        if not self._queue and self._rounds:
            self._rounds -= 1
            self._fill(neighbours)
        asks = [self._queue.popleft() for _ in range(min(AT_ONCE, len(self._queue)))]
        if self._queue:
            self._next = now + NEXT_LOT
        else:
            self._next = now + ROUND_SPACING if asks else math.inf
        if not self._asking:
            self._again = self._again + 1 if self._contested else 0
            self._wants_another = 0 < self._again <= AGAIN_AT_MOST
        return asks

    @property
    def _asking(self) -> bool:
        return self._next < math.inf

    def _fill(self, neighbours: Sequence[IPAddress]) -> None:
        for vip in self._vips:
            self._queue.append(Ask(vip))
            if vip not in self._confirmed:
                self._queue += [Ask(each, vip) for each in neighbours if each.version == vip.version]

    def heard(self, answer: Answer, *, mac: bytes) -> bool:
        """Take an answer that no other interface of this node gave; return whether it is news that it is contested.

        ``mac`` is what the VIPs are announced at. Answers from a VIP are of somebody else: nobody hears himself.
        """
        if answer.address in self._vips:
            news = self._contested.get(answer.address) != answer.mac
            self._contested[answer.address] = answer.mac
            return news
        if answer.told in self._vips and answer.to == mac:
            self._confirmed.add(answer.told)
        return False

    def announces_again(self) -> bool:
        """Tell, once, whether to announce again because somebody else has answered to the last time."""
        wants, self._wants_another = self._wants_another, False
        return wants
