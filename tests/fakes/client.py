"""A client on the simulated LAN: it never asks where the VIP is, but goes by the announcements that it hears."""

from __future__ import annotations

import math
from dataclasses import dataclass

LOCKTIME = 1.0
"""Seconds for which Linux holds an ARP entry that has just changed against another change."""
Mac = tuple[int, int]
"""A node's number, and how many others its interface has had."""


@dataclass(slots=True)
class Client:
    """``beside`` is the node on whose side of a partition it is; ``mac`` is where it sends what is for the VIP."""

    beside: int
    mac: Mac | None = None
    listens: bool = True
    changed_at: float = -math.inf

    def hear(self, mac: Mac, now: float) -> None:
        """Take an announcement."""
        if self.listens and mac != self.mac and now - self.changed_at >= LOCKTIME:
            self.mac, self.changed_at = mac, now
