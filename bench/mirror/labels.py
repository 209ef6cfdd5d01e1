"""What the pods say, as a client that watches them learns it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

from sidecar.agent.api import KubernetesPods
from sidecar.agent.follow import Which

_WITHIN = 300.0
"""Seconds; a busy machine takes minutes to start two hundred agents."""

Right = Callable[[Mapping[str, str]], bool]
"""Whether roles by pod are as they should be."""


class Labels:
    """``roles`` by pod, "" for none; ``run`` keeps them up to date."""

    def __init__(self, pods: KubernetesPods) -> None:
        self.roles: dict[str, str] = {}
        self._pods = pods
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Watch until cancelled. Raises ApiError."""
        listed = await self._pods.list(Which())
        self.roles = {pod.name: pod.labels.get("carp-role", "") for pod in listed.items}
        self._changed.set()
        async for change in self._pods.watch(Which(), listed.version, seconds=3600):
            if change.item is not None:
                self.roles[change.item.name] = change.item.labels.get("carp-role", "")
                self._changed.set()

    async def until(self, right: Right, what: str) -> float:
        """Return when (on the monotonic clock) they were right. Raises TimeoutError."""
        deadline = time.monotonic() + _WITHIN
        while not right(self.roles):
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), deadline - time.monotonic())
            except TimeoutError as error:
                raise TimeoutError(f"not within {_WITHIN:.0f} s: {what}") from error
        return time.monotonic()


def only(master: str, *, of: int) -> Right:
    """Return the test for one master, all others backup."""

    def right(roles: Mapping[str, str]) -> bool:
        said = list(roles.values())
        return roles.get(master) == "master" and said.count("backup") == of - 1

    return right
