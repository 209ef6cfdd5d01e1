"""The pods of the groups with their roles, for people: read when somebody looks, and then not again for a while."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from sidecar.agent.errors import ApiError
from sidecar.observe.moment import rfc3339

if TYPE_CHECKING:
    from sidecar.agent.api import PodApi
    from sidecar.agent.desired import GroupKeys, Pod
    from sidecar.agent.follow import Which

FRESH = 5.0
"""Seconds for which a list serves everybody who looks."""
ANSWER_WITHIN = 2.0
"""Seconds that somebody waits for the first list; later ones see the last while the next is read."""
SHOWN_AT_MOST = 500


class Pods:
    """All pods that carry a role of these groups. ``which`` selects them; ``clock`` is in monotonic seconds."""

    def __init__(
        self,
        api: PodApi,
        which: Which,
        keys: Sequence[GroupKeys],
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._api = api
        self._which = which
        self._keys = tuple(keys)
        self._clock = clock
        self._wall = wall
        self._read_at = -math.inf
        self._reading: asyncio.Task[None] | None = None
        self._known: tuple[Pod, ...] | None = None
        self._as_of = 0.0
        self._error = ""

    async def look(self) -> dict[str, object]:
        """Return ``pods`` (name, roles by group, addresses, ready) or None if unknown, ``as_of`` and ``error``."""
        if self._reading is None and self._clock() - self._read_at >= FRESH:
            self._reading = asyncio.create_task(self._read())
        if self._reading is not None and self._known is None:
            await asyncio.wait({self._reading}, timeout=ANSWER_WITHIN)
        known = self._known
        return {
            "pods": None if known is None else [self._shown(pod) for pod in known[:SHOWN_AT_MOST]],
            "as_of": None if known is None else rfc3339(self._as_of),
            "error": self._error,
        }

    async def _read(self) -> None:
        try:
            listed = await self._api.list(self._which)
        except ApiError as error:
            self._error = str(error)
        else:
            self._known, self._as_of, self._error = listed.items, self._wall(), ""
        self._read_at = self._clock()
        self._reading = None

    def _shown(self, pod: Pod) -> dict[str, object]:
        roles = {key.group: pod.labels[key.label] for key in self._keys if key.label in pod.labels}
        return {"name": pod.name, "roles": roles, "addresses": list(pod.ips), "ready": pod.lives}
