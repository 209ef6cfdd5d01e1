"""Brings the pods in line with the newest snapshot, and then does nothing until the next one.

Level-triggered: every attempt starts from what the API server says now, so it does not matter how many were lost.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from sidecar.agent import desired
from sidecar.agent.api import ApiError, PodApi
from sidecar.agent.desired import GroupKeys, Metadata, Pod
from sidecar.ipc.messages import GroupRole, MirroredGroup, Snapshot
from sidecar.protocol.types import Role

log = logging.getLogger(__name__)

FIRST_DELAY = 0.1
LONGEST_DELAY = 1.0
"""Seconds between attempts: short, since only agents with something to say ask, and labels follow within 2 s."""
REFUSED_DELAY = 15.0
"""Seconds between attempts once the server has refused us (401, 403, 404) for a while: only a person can help then."""
PATIENT_REFUSALS = 10
"""Refusals in a row before that: a server that has just started refuses everybody until it has read its rules."""

_NOT_FOUND, _CONFLICT = 404, 409
_REFUSALS = frozenset({401, 403, _NOT_FOUND})


class Reconciler:
    """Mirrors one sidecar's groups. ``offer`` takes a snapshot; ``run`` works until ``finish`` was called.

    ``connect`` is called again after it raised ApiError; ``jitter`` returns 0..1.
    """

    def __init__(
        self,
        *,
        connect: Callable[[], Awaitable[PodApi]],
        pod_name: str,
        role_label: str,
        groups: Sequence[MirroredGroup],
        jitter: Callable[[], float],
    ) -> None:
        self._connect = connect
        self._pod_name = pod_name
        several = len(groups) > 1
        self._groups = {group.name: group for group in groups}
        self._keys = {
            group.name: desired.keys(role_label=role_label, group=group.name, several=several) for group in groups
        }
        self._jitter = jitter
        self._api: PodApi | None = None
        self._newest: Snapshot | None = None
        self._changed = asyncio.Event()
        self._finishing = False
        self.finished = False
        """Set once all is written that there was to write after ``finish``."""
        self._complaint: object = None
        self._refusals = 0

    def offer(self, snapshot: Snapshot) -> None:
        """Take a snapshot; only the newest matters."""
        self._newest = snapshot
        self._changed.set()

    def finish(self) -> None:
        """Write what is left to write, then let ``run`` return."""
        self._finishing = True
        self._changed.set()

    async def run(self) -> None:
        """Reconcile whenever a snapshot came, retry until it is written."""
        delay = 0.0
        while True:
            if delay:
                await self._wait(delay)
            elif not self._changed.is_set():
                await self._changed.wait()
            self._changed.clear()
            snapshot = self._newest
            if snapshot is None:
                if self._finishing:
                    self.finished = True
                    return
                continue
            try:
                await self._reconcile(snapshot)
            except ApiError as error:
                if error.status != _CONFLICT:  # somebody was quicker: look again, it is no fault
                    self._complain(error)
                delay = self._next_delay(delay, error)
                continue
            self._settle()
            delay = 0.0
            if self._finishing and snapshot is self._newest:
                self.finished = True
                return

    async def _wait(self, delay: float) -> None:
        """Sleep; a new snapshot does not cut it short, or a flapping network would hammer the API server."""
        await asyncio.sleep(delay * (0.5 + self._jitter() / 2))

    def _next_delay(self, delay: float, error: ApiError) -> float:
        self._refusals = self._refusals + 1 if error.status in _REFUSALS else 0
        longest = REFUSED_DELAY if self._refusals > PATIENT_REFUSALS else LONGEST_DELAY
        return min(longest, delay * 2) if delay else FIRST_DELAY

    async def _reconcile(self, snapshot: Snapshot) -> None:
        if self._api is None:
            self._api = await self._connect()
        api = self._api
        own = await api.own()
        wanted = Metadata(labels={}, annotations={})
        repairs: list[tuple[Pod, GroupKeys]] = []
        for role in snapshot.groups:
            epoch, stale = await self._take_over(api, role, own) if role.role == Role.MASTER else (None, [])
            repairs += [(pod, self._keys[role.name]) for pod in stale]
            wanted = wanted.merged(
                desired.metadata(group=self._groups[role.name], role=role, using=self._keys[role.name], epoch=epoch)
            )
        # First the others, then ourselves: for a moment no pod says master, but never two.
        failed = await self._repair(api, repairs)
        missing = wanted.missing_from(own)
        if missing is not None:
            await api.patch(self._pod_name, missing)
        if failed is not None:
            raise failed

    async def _take_over(self, api: PodApi, role: GroupRole, own: Pod) -> tuple[int, list[Pod]]:
        """Return this node's epoch and the pods that still say master of an older one."""
        using, group = self._keys[role.name], self._groups[role.name]
        try:
            masters = await api.labelled(f"{using.label}={Role.MASTER.value}")
        except ApiError as error:
            if error.status is None:
                raise
            self._complain(error)  # our own label does not depend on seeing the others'
            masters = []
        said = desired.metadata(group=group, role=role, using=using, epoch=None)
        if said.missing_from(own) is None and desired.epoch_of(own, using):
            epoch = desired.epoch_of(own, using)
        else:
            epoch = desired.next_epoch([own, *(m for m in masters if desired.is_same_group(m, group, using))], using)
        stale = desired.superseded(pods=masters, own=self._pod_name, group=group, using=using, epoch=epoch)
        return epoch, stale

    async def _repair(self, api: PodApi, repairs: Sequence[tuple[Pod, GroupKeys]]) -> ApiError | None:
        """Relabel superseded pods, each only as we read it; return the last failure instead of raising it."""
        failed: ApiError | None = None
        for pod, using in repairs:
            try:
                await api.patch(
                    pod.name,
                    desired.demoted(by=self._pod_name, using=using),
                    resource_version=pod.resource_version,
                )
            except ApiError as error:
                if error.status != _NOT_FOUND:  # a pod that is gone says nothing any more
                    failed = error
                continue
            log.info("pod %s still said master; relabelled", pod.name, extra={"group": using.group})
        return failed

    def _complain(self, error: ApiError) -> None:
        """Say it once per state: no answer at all is one, each HTTP status another."""
        state = "no answer" if error.status is None else error.status
        if state != self._complaint:
            log.warning("%s; the VIP does not depend on it, the labels follow later", error)
        self._complaint = state

    def _settle(self) -> None:
        if self._complaint is not None:
            log.info("the labels are up to date again")
        self._complaint = None
        self._refusals = 0
