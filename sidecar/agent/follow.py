"""Follows some pods: a list, then a watch from there on; what is known of them is always at hand.

No polling: the server tells. When a watch's time is over, after some minutes, everything is listed anew, in case that
somebody in between told a lie.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sidecar.agent.api import Change, PodApi, Which
from sidecar.agent.backoff import Backoff
from sidecar.agent.desired import Pod
from sidecar.agent.errors import ApiError

SHORTEST_WATCH = 300
LONGEST_WATCH = 600
"""Seconds; at random in between, so that not all agents list at once."""
_SOUND = 5.0
"""Seconds after which a watch that ends counts as one that worked."""
_GONE = 410


class Follower:
    """What is known of some pods. ``pods`` is None until the first list was read.

    ``changed`` is called after every change, ``failed`` with what is wrong, or None once it works (again).
    """

    def __init__(
        self,
        api: PodApi,
        which: Which,
        *,
        changed: Callable[[], None],
        failed: Callable[[ApiError | None], None],
        jitter: Callable[[], float],
    ) -> None:
        self.which = which
        self.pods: dict[str, Pod] | None = None
        self._api = api
        self._changed = changed
        self._failed = failed
        self._jitter = jitter
        self._backoff = Backoff(jitter)
        self._version = ""

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            began = asyncio.get_running_loop().time()
            error: ApiError | None = None
            try:
                await self._turn()
                continue_at_once = True
            except ApiError as caught:
                error = caught
                continue_at_once = False
                if error.status != _GONE:
                    self._failed(error)
            lived = asyncio.get_running_loop().time() - began
            if lived >= _SOUND:
                self._backoff.settle()
            if continue_at_once and lived >= _SOUND:
                continue
            await asyncio.sleep(self._backoff.after(error))

    async def _turn(self) -> None:
        """Read from where we are until the watch ends. Raises ApiError."""
        if not self._version:
            await self._list()
        seconds = SHORTEST_WATCH + round(self._jitter() * (LONGEST_WATCH - SHORTEST_WATCH))
        ends = asyncio.get_running_loop().time() + seconds
        try:
            async for change in self._api.watch(self.which, self._version, seconds=seconds):
                self._take(change)
        except ApiError as error:
            if error.status == _GONE:
                self._version = ""
            raise
        if asyncio.get_running_loop().time() >= ends - 1:
            self._version = ""

    async def _list(self) -> None:
        listed = await self._api.list(self.which)
        self.pods = {pod.name: pod for pod in listed.pods}
        self._version = listed.version
        self._failed(None)
        self._changed()

    def _take(self, change: Change) -> None:
        self._version = change.version or self._version
        self._failed(None)
        if change.pod is None or self.pods is None:
            return
        if change.gone:
            self.pods.pop(change.pod.name, None)
        elif _is_older(change.pod, self.pods.get(change.pod.name)):
            return
        else:
            self.pods[change.pod.name] = change.pod
        self._changed()

    def wrote(self, pod: Pod) -> None:
        """Note how a pod is after a write of ours; the watch tells it a little later."""
        known = None if self.pods is None else self.pods.get(pod.name)
        if self.pods is not None and known is not None and known.uid == pod.uid and not _is_older(pod, known):
            self.pods[pod.name] = pod


def _is_older(pod: Pod, known: Pod | None) -> bool:
    """Tell whether a pod's version precedes the one that we know; versions that are no numbers cannot be compared."""
    if known is None or known.uid != pod.uid:
        return False
    return (
        pod.resource_version.isdigit()
        and known.resource_version.isdigit()
        and (int(pod.resource_version) < int(known.resource_version))
    )
