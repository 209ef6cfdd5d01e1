"""Who comes after a master that was told to stop: it stays until somebody has said so, but not for long.

It has let go of the VIPs and said goodbye by then. It answers for nothing and does nothing but listen, so that whoever
waits for its end (the kubelet, a rollout) waits for the successor, and the log says who that is, or that there is none.
"""

from __future__ import annotations

import logging
import math

from sidecar.protocol.types import IPAddress

log = logging.getLogger(__name__)


class Succession:
    """The groups whose next master has not been heard yet. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def await_one(self, group: str, *, until: float) -> None:
        """Wait for the next master of a group."""
        self._until[group] = until

    @property
    def deadline(self) -> float:
        """When ``expire`` is due, infinity if nobody is waited for."""
        return min(self._until.values(), default=math.inf)

    def heard(self, group: str, source: IPAddress) -> None:
        """Note that somebody else is master."""
        if self._until.pop(group, None) is not None:
            log.info("%s is master now", source, extra={"group": group})

    def expire(self, now: float) -> None:
        """Wait no more where that has taken too long."""
        for group in [group for group, until in self._until.items() if until <= now]:
            del self._until[group]
            log.warning("nobody has taken over", extra={"group": group})
