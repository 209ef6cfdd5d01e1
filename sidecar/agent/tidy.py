"""Takes away what Kubernetes still says of groups that the settings have let go of: once, when the agent starts.

Once, since afterwards it may be somebody else's: a group that went over to another sidecar which labels the same pods.
What the own pod says is known from the pod itself, so that it does not matter when the settings changed; what else
there was, on pods that a selector chose and beyond the pods, the parent remembers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Sequence, Set
from dataclasses import dataclass, replace
from http import HTTPStatus

from sidecar.agent import desired
from sidecar.agent.api import PodApi
from sidecar.agent.backoff import Backoff
from sidecar.agent.balancers import Balancers
from sidecar.agent.context import Context
from sidecar.agent.desired import GroupKeys, Metadata, Pod
from sidecar.agent.errors import ApiError
from sidecar.agent.follow import Which
from sidecar.agent.lease import Witness
from sidecar.agent.reconciler import which_of
from sidecar.agent.slices import Slices
from sidecar.ipc.messages import FormerGroup, MirroredGroup
from sidecar.protocol.types import Role

log = logging.getLogger(__name__)

_STAYS = frozenset({HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND})
"""A right may be gone with the feature that wanted it, and so may what is to be taken away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Beyond:
    """Who writes what follows from being master, beyond the pods."""

    witness: Witness
    slices: Slices
    balancers: Balancers


class Tidy:
    """``run`` returns once nothing is left of what ``former`` groups showed and the current ones do not."""

    def __init__(self, api: PodApi, context: Context, former: Sequence[FormerGroup], beyond: Beyond) -> None:
        self._api = api
        self._context = context
        self._former = former
        self._beyond = beyond

    async def run(self) -> None:
        """Take it away, and try again until that worked."""
        backoff = Backoff(self._context.jitter)
        while True:
            try:
                await self._work()
            except ApiError as error:
                self._context.complaints.note("tidy", error)
                await asyncio.sleep(backoff.after(error))
            else:
                self._context.complaints.note("tidy", None)
                return

    async def _work(self) -> None:
        groups = (*self._context.groups, *(each.group for each in self._former))
        every = dict.fromkeys((self._own, *map(self._which, groups)))
        pods = {which: (await self._api.list(which)).items for which in every}
        for former in self._former:
            await self._withdraw(former, pods[self._which(former.group)])
        for pod in {pod.uid: pod for found in pods.values() for pod in found}.values():
            await self._strip(pod, {which for which, found in pods.items() if pod.uid in {each.uid for each in found}})

    @property
    def _own(self) -> Which:
        return Which(fields=f"metadata.name={self._context.plan.pod_name}")

    def _which(self, group: MirroredGroup) -> Which:
        return which_of(group, pod=self._context.plan.pod_name, node=self._context.node)

    # Pods --------------------------------------------------------------------------------------------------------

    async def _strip(self, pod: Pod, chosen_by: Set[Which]) -> None:
        """Take away what one pod says; ``chosen_by`` are the selections that it is in."""
        context, plan = self._context, self._context.plan
        several = len(context.groups) > 1
        former = [_keys_of(each) for each in self._former if self._which(each.group) in chosen_by]
        if self._own in chosen_by:
            former += desired.told_by(pod, plan.role_label)
        gone = desired.outdated(
            pod,
            former=former,
            current=[
                desired.keys(role_label=plan.role_label, group=group.name, several=several)
                for group in context.groups
                if self._which(group) in chosen_by
            ],
            conditions=plan.readiness_condition,
        )
        if gone is not None:
            await self._patch(pod, gone)

    async def _patch(self, pod: Pod, gone: Metadata) -> None:
        """Write, if the pod is still there, and without the condition where only that is forbidden."""
        try:
            await self._api.patch(pod, gone)
        except ApiError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return
            if error.status != HTTPStatus.FORBIDDEN or not gone.without:
                raise
            log.warning("pod %s keeps the condition %s: %s", pod.name, ", ".join(gone.without), error)
            gone = replace(gone, without=())
            if gone == desired.NOTHING:
                return
            await self._api.patch(pod, gone)
        log.info("pod %s no longer says %s", pod.name, ", ".join((*gone.labels, *gone.annotations, *gone.without)))

    # Beyond the pods ---------------------------------------------------------------------------------------------

    async def _withdraw(self, former: FormerGroup, pods: Sequence[Pod]) -> None:
        context, shown = self._context, former.group.mirror
        now = [group.mirror for group in context.groups]
        witnessed = context.plan.lease_witness and any(group.name == former.group.name for group in context.groups)
        if former.lease and not witnessed:
            holders = {context.plan.pod_name, *(pod.name for pod in pods)}
            await _where_it_may(self._beyond.witness.withdraw(former.group.name, holders))
        if shown.endpoint_slice and all(shown.endpoint_slice != each.endpoint_slice for each in now):
            await _where_it_may(self._beyond.slices.withdraw(shown.endpoint_slice, {pod.uid for pod in pods}))
        label = _keys_of(former).label
        was_master = any(pod.labels.get(label) == Role.MASTER for pod in pods)  # others may still publish it
        class_ = shown.load_balancer_class
        if class_ and was_master and all(class_ != each.load_balancer_class for each in now):
            await _where_it_may(self._beyond.balancers.withdraw(class_, former.group.vips))


def _keys_of(former: FormerGroup) -> GroupKeys:
    return desired.keys(role_label=former.role_label, group=former.group.name, several=former.several)


async def _where_it_may(work: Awaitable[None]) -> None:
    try:
        await work
    except ApiError as error:
        if error.status not in _STAYS:
            raise
        log.warning("what the settings have let go of stays as it is: %s", error)
