"""Runs side by side that make their LANs together, are looked at together, and take their LANs down together.

To make and to unmake a LAN, and to start its processes, takes the kernel's rtnl lock and a core: where one run does so
while another one is looked at, that is what is measured.
"""

from __future__ import annotations

from threading import Condition


class Together:
    """``parties`` runs. Each waits for the others at the same places, and says so when it is over."""

    def __init__(self, parties: int) -> None:
        self._parties = parties
        self._waiting = 0
        self._places = 0
        self._changed = Condition()

    def wait(self) -> None:
        """Go on when all have come so far that are not over."""
        with self._changed:
            place = self._places
            self._waiting += 1
            self._move_on()
            self._changed.wait_for(lambda: self._places > place)

    def over(self) -> None:
        """Nobody waits for this one any more."""
        with self._changed:
            self._parties -= 1
            self._move_on()

    def _move_on(self) -> None:
        if self._waiting >= self._parties > 0:
            self._waiting = 0
            self._places += 1
            self._changed.notify_all()
