"""Brings the pods in line with the newest snapshot, and then does nothing until something changes.

Level-triggered: every attempt starts from what is known of the pods now, so it does not matter how many were lost, who
else wrote, and whether the agent was there at all.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sidecar.agent import desired
from sidecar.agent.api import PodApi
from sidecar.agent.aside import Aside, StandingAside
from sidecar.agent.backoff import REFUSED_DELAY, Backoff
from sidecar.agent.context import Context
from sidecar.agent.desired import GroupKeys, Mastership, Metadata, Pod, Stand
from sidecar.agent.errors import ApiError
from sidecar.agent.follow import Follower, Which
from sidecar.agent.retry import Failures, Loop
from sidecar.ipc.messages import GroupRole, MirroredGroup, Snapshot, StandAside
from sidecar.protocol.types import Role

log = logging.getLogger(__name__)

GRACE = 0.5
"""Seconds that a winner gives a master that is alive to say itself that it is none any more."""
BUSY = 2.0
"""Seconds that our own label waits for a server that does not relabel the dead now, and may a moment later."""
_QUIET = 60.0
"""Seconds without an edit by somebody else after which the next one is news."""
_NOT_FOUND, _CONFLICT = 404, 409


@dataclass(frozen=True, slots=True, kw_only=True)
class Mastered:
    """A group of which this node is master, as its pods say: what Kubernetes shows beyond the pods follows from it."""

    group: MirroredGroup
    role: GroupRole
    epoch: int
    node: str
    holder: str
    """The pod that others are told of as the master."""
    targets: tuple[Pod, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Order:
    """What is to be done about one group. ``stand`` is None where this node is not master."""

    role: GroupRole
    targets: tuple[Pod, ...]
    said: Metadata
    stand: Stand | None = None

    @property
    def stale(self) -> tuple[Pod, ...]:
        return () if self.stand is None else self.stand.stale

    @property
    def claims(self) -> bool:
        """Tell whether it has a pod say master."""
        return self.stand is not None and self.stand.defers_to is None


@dataclass(slots=True)
class _Members:
    """The pods of a group on all nodes, followed for as long as this node is master."""

    mastership: tuple[float, int]
    follower: Follower[Pod]
    task: asyncio.Task[None]
    patient_until: float
    answered: set[Mastership]
    accused_at: float = math.inf
    busy_since: float = math.inf
    """Since when the server does not relabel the others, though it may soon."""


class Reconciler:
    """Mirrors one sidecar's groups into pods. ``offer`` takes a snapshot; ``run`` works until ``finish`` was called.

    ``told`` is called with the groups that this node is master of, once the pods say so, ``aside`` with what a rollout
    asks of it.
    """

    def __init__(
        self,
        api: PodApi,
        context: Context,
        told: Callable[[tuple[Mastered, ...]], None],
        aside: Callable[[StandAside], None],
    ) -> None:
        plan, groups = context.plan, context.groups
        self._api = api
        self._plan = plan
        self._node = context.node
        several = len(groups) > 1
        self._groups = {group.name: group for group in groups}
        self._keys = {
            group.name: desired.keys(role_label=plan.role_label, group=group.name, several=several) for group in groups
        }
        self._complaints = context.complaints
        self._status = context.status
        self._told = told
        self._jitter = context.jitter
        self._wall = context.wall
        self._loop = Loop(
            self._reconcile, failed=lambda error: self._complaints.note("pods", error), jitter=self._jitter
        )
        self._which = {group.name: which_of(group, pod=plan.pod_name, node=context.node) for group in groups}
        self._own = Which(fields=f"metadata.name={plan.pod_name}")
        followed = dict.fromkeys((*self._which.values(), self._own) if groups else ())
        self._targets = {which: self._follower(which) for which in followed}
        self._aside = StandingAside(
            api,
            context,
            Aside({using.label: group for group, using in self._keys.items()}, aside),
            own=lambda: self._own_pod,
            know=self._know,
        )
        self._members: dict[str, _Members] = {}
        self._tasks: asyncio.TaskGroup
        self._newest: Snapshot | None = None
        self._written: Snapshot | None = None
        self._then: Callable[[], None] | None = None
        self._mastered: tuple[Mastered, ...] = ()
        self._epochs: dict[str, int] = {}
        self._put_back = Backoff(self._jitter)
        self._put_back_at = -_QUIET
        self._conditions_refused = False
        self._finishing = False
        self._finished = asyncio.Event()

    def offer(self, snapshot: Snapshot, then: Callable[[], None] | None = None) -> None:
        """Take a snapshot; only the newest matters. ``then`` is called once that is written."""
        self._newest, self._then = snapshot, then
        if self._status.pending_since is None:
            self._status.pending_since = self._wall()
        self._loop.wake()

    def note_epoch(self, group: str, epoch: int) -> None:
        """Take an epoch that is known from elsewhere; the next claim is newer."""
        self._epochs[group] = max(epoch, self._epochs.get(group, 0))
        self._loop.wake()

    @property
    def pod(self) -> Pod | None:
        """The sidecar's own pod, or where that is not followed one that carries a role; None while none is known."""
        known = [pod for follower in self._targets.values() for pod in (follower.items or {}).values()]
        return next((pod for pod in known if pod.name == self._plan.pod_name), known[0] if known else None)

    def finish(self) -> None:
        """Write what is left to write, then let ``run`` return."""
        self._finishing = True
        if self._newest is self._written:
            self._finished.set()

    async def run(self) -> None:
        """Reconcile whenever something changes, retry until it is written."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            running = [tasks.create_task(follower.run()) for follower in self._targets.values()]
            running += [tasks.create_task(each.run()) for each in (self._loop, self._aside)]
            await self._finished.wait()
            for task in (*running, *(others.task for others in self._members.values())):
                task.cancel()

    # One attempt -------------------------------------------------------------------------------------------------

    async def _reconcile(self) -> float | None:
        """Write what differs; return the seconds after which to look again. Raises ApiError."""
        snapshot = self._newest
        if snapshot is None:
            return None
        self._follow_members(snapshot)
        orders = [self._order(role) for role in snapshot.groups]
        if None in orders:
            return None  # what is read now wakes us
        ready = [order for order in orders if isinstance(order, _Order)]
        waits = [order for order in orders if isinstance(order, float)]
        # First the others, then ourselves: for a moment no pod says master rather than two.
        failures = Failures()
        repaired = await self._repair(ready, failures)
        for order in repaired:
            if order.stand is not None and order.stand.answers is not None:
                # Relabelled, it has been contradicted, whether our own claim is written or refused as overtaken.
                self._members[order.role.name].answered.add(order.stand.answers)
        wrote, written = await self._write(repaired, failures)
        self._tell(ready, written)
        failures.throw()
        if len(ready) < len(orders):
            return min(waits, default=None)
        if not all(map(self._holds, ready)):
            return None  # what has changed wakes us
        again = snapshot is self._written
        self._settle(snapshot)
        if wrote and again:
            await self._note_put_back()
        return REFUSED_DELAY if self._conditions_refused else None

    def _settle(self, snapshot: Snapshot) -> None:
        self._written = snapshot
        if snapshot is not self._newest:
            return
        if self._status.pending_since is not None:
            self._status.last_lag = self._status.lag(self._wall())
            self._status.pending_since = None
        if self._finishing:
            self._finished.set()
        then, self._then = self._then, None
        if then is not None:
            then()

    async def _note_put_back(self) -> None:
        """Wait a little, and longer each time: whoever edits our labels again and again must not set the pace."""
        now = asyncio.get_running_loop().time()
        if now - self._put_back_at > _QUIET:
            self._put_back.settle()
            log.warning("somebody else changed what a pod of this node says; it is put back")
        self._put_back_at = now
        await asyncio.sleep(self._put_back.after(None))

    def _order(self, role: GroupRole) -> _Order | float | None:
        """Return what to do about a group, the seconds to wait with it, or None if too little is known yet."""
        group, using = self._groups[role.name], self._keys[role.name]
        targets = self._targets_of(role.name)
        if targets is None:
            return None
        if role.role != Role.MASTER:
            said = desired.metadata(group=group, role=role, using=using, epoch=None)
            return _Order(role=role, targets=targets, said=self._with_condition(said, using, role))
        others = self._members[role.name]
        if others.follower.items is None:
            return None
        members = others.follower.items.values()
        rivals = desired.rivals_among(members, targets=targets, group=group, using=using)
        newest = desired.newest_among(members, group=group, using=using)
        stand = desired.stand(
            role=role,
            using=using,
            seen=desired.Seen(
                targets=targets,
                rivals=rivals,
                answered=frozenset(others.answered),
                newest=max(newest, self._epochs.get(role.name, 0)),
            ),
        )
        patience = self._patience(others, role, stand, accused=desired.is_accused(targets, using), rivals=rivals)
        if patience > 0:
            return patience
        if stand.defers_to is not None:
            said = desired.demoted(by=stand.defers_to, using=using)
        else:
            said = desired.metadata(group=group, role=role, using=using, epoch=stand.epoch)
        return _Order(role=role, targets=targets, said=self._with_condition(said, using, role), stand=stand)

    def _patience(
        self, others: _Members, role: GroupRole, stand: Stand, *, accused: bool, rivals: Sequence[Pod]
    ) -> float:
        """Return the seconds to wait: for a loser who lives, and for the claim of somebody who says that we lost."""
        now = asyncio.get_running_loop().time()
        others.accused_at = others.accused_at if accused else math.inf
        if accused and not rivals:
            others.accused_at = min(others.accused_at, now)
            return others.accused_at + GRACE - now
        polite = stand.begins and stand.answers is None and role.reason in desired.POLITE
        return others.patient_until - now if polite and any(pod.lives for pod in rivals) else 0.0

    def _with_condition(self, said: Metadata, using: GroupKeys, role: GroupRole) -> Metadata:
        if not self._plan.readiness_condition:
            return said
        return desired.with_condition(said, using=using, since=role.since)

    async def _repair(self, orders: Sequence[_Order], failures: Failures) -> list[_Order]:
        """Relabel the superseded pods, each only as we read it; return which groups may go on.

        Where it may still work, ours has to wait, if not for long. Where it is refused, two pods that say master are
        better than none.
        """
        ready: list[_Order] = []
        for order in orders:
            using = self._keys[order.role.name]
            said = desired.demoted(by=self._name_for(order), using=using)
            fault = await self._relabel(order.stale, self._with_condition(said, using, order.role), group=using.group)
            failures.note(fault)
            if not self._may_work_yet(order.role.name, fault):
                ready.append(order)
        return ready

    def _may_work_yet(self, group: str, fault: ApiError | None) -> bool:
        """Tell whether the dead of a group are still to be relabelled before our own may say master."""
        others, now = self._members.get(group), asyncio.get_running_loop().time()
        if others is None:
            return False  # a backup relabels nobody
        if fault is None:
            others.busy_since = math.inf
        if fault is None or not fault.passes:
            return False
        if fault.status in (None, _CONFLICT):
            return True  # ours would not arrive either, or it is read anew
        others.busy_since = min(others.busy_since, now)
        return now + fault.retry_after - others.busy_since < BUSY

    async def _relabel(self, stale: Sequence[Pod], said: Metadata, *, group: str) -> ApiError | None:
        failures = Failures()
        for pod in stale:
            try:
                after = await self._patch(pod, said, unchanged=True)
            except ApiError as error:
                if error.status != _NOT_FOUND:  # a pod that is gone says nothing any more
                    failures.note(error)
                continue
            self._know(after)
            log.info("pod %s still said master; relabelled", pod.name, extra={"group": group})
        return failures.error

    def _name_for(self, order: _Order) -> str:
        """Return the pod that others are told of as the new master."""
        running = [pod.name for pod in order.targets if not pod.ended]
        return (running or [pod.name for pod in order.targets] or [self._plan.pod_name])[0]

    async def _write(self, orders: Sequence[_Order], failures: Failures) -> tuple[bool, list[_Order]]:
        """Have each pod of this node say of all groups what differs, in one patch.

        One that says master is written only as we know it: whoever relabelled it since knows of a newer master, and a
        claim that comes late, or once more since its answer was lost, must not undo that. Return whether anything was
        written, and the groups that not all pods have refused.
        """
        newest = self._newest
        wanted: dict[str, tuple[Pod, list[_Order]]] = {}
        for order in orders:
            for pod in order.targets:
                wanted.setdefault(_life(pod), (pod, []))[1].append(order)
        wrote = False
        failed = set(wanted)
        for life, (pod, about) in wanted.items():
            if not all(map(self._holds, about)):
                continue
            missing = functools.reduce(Metadata.merged, (order.said for order in about)).missing_from(pod)
            with failures:
                if missing is not None:
                    after = await self._patch(pod, missing, unchanged=any(order.claims for order in about))
                    wrote = wrote or after is not pod
                    self._know(after)
                failed.discard(life)
            if failures.error is not None and self._newest is not newest:
                break  # an attempt that failed may have taken its time: what it would write is no longer so
        return wrote, [
            order for order in orders if not order.targets or not failed.issuperset(map(_life, order.targets))
        ]

    @property
    def _own_pod(self) -> Pod | None:
        follower = self._targets.get(self._own)
        return None if follower is None else (follower.items or {}).get(self._plan.pod_name)

    def _holds(self, order: _Order) -> bool:
        """Tell whether a claim is still right: relabelling others took its time, and another may say master by now."""
        others = self._members.get(order.role.name)
        if not order.claims or others is None or others.follower.items is None or self._newest is None:
            return True
        group, using = self._groups[order.role.name], self._keys[order.role.name]
        rivals = desired.rivals_among(others.follower.items.values(), targets=order.targets, group=group, using=using)
        return order.role in self._newest.groups and all(pod in order.stale for pod in rivals)

    async def _patch(self, pod: Pod, said: Metadata, *, unchanged: bool) -> Pod:
        """Write, without the condition where only that is forbidden: the labels do not depend on it.

        A pod that is not as we know it is read: a watch that has fallen silent would not tell for minutes.
        """
        try:
            after = await self._api.patch(pod, said, unchanged=unchanged)
        except ApiError as error:
            if error.status == _CONFLICT:
                for now in (await self._api.list(Which(fields=f"metadata.name={pod.name}"))).items:
                    self._know(now)
            if not said.conditions or error.status != 403:
                raise
            self._complaints.note("conditions", error)
            self._conditions_refused = True
            bare = Metadata(labels=said.labels, annotations=said.annotations)
            return await self._api.patch(pod, bare, unchanged=unchanged) if bare != desired.NOTHING else pod
        if said.conditions:
            self._complaints.note("conditions", None)
            self._conditions_refused = False
        return after

    def _tell(self, orders: Sequence[_Order], written: Sequence[_Order]) -> None:
        """Pass on of which groups this node is master, as its pods say: as before where none takes it yet."""
        before = {each.group.name: each for each in self._mastered}
        said = {
            order.role.name: Mastered(
                group=self._groups[order.role.name],
                role=order.role,
                epoch=order.stand.epoch,
                node=self._node,
                holder=self._name_for(order),
                targets=order.targets,
            )
            if order in written
            else before.get(order.role.name)
            for order in orders
            if order.stand is not None and order.claims
        }
        self._mastered = tuple(filter(None, said.values()))
        self._told(self._mastered)

    # What is known of the pods -----------------------------------------------------------------------------------

    def _know(self, pod: Pod) -> None:
        """Take how a pod is by an answer; the watches tell it a little later."""
        for follower in (*self._targets.values(), *(others.follower for others in self._members.values())):
            follower.wrote(pod)

    def _targets_of(self, group: str) -> tuple[Pod, ...] | None:
        """Return the pods of this node that carry a group's role, None while that is not known."""
        which = self._which[group]
        pods = self._targets[which].items
        if pods is None:
            return None
        if not pods and not which.labels:
            plan = self._plan
            name = f"{plan.pod_namespace}/{plan.pod_name}"
            fault = ApiError(f"pod {name} is not there (404); check POD_NAME and POD_NAMESPACE", 404)
            self._complaints.note("own pod", fault)
            return None
        self._complaints.note("own pod", None)
        return tuple(pods[name] for name in sorted(pods))

    def _follow_members(self, snapshot: Snapshot) -> None:
        """Follow the pods of the groups that this node is master of, on all nodes and from a fresh list on."""
        for role in snapshot.groups:
            mastership = (role.since, role.transitions)
            known = self._members.get(role.name)
            if known is not None and (role.role != Role.MASTER or known.mastership != mastership):
                known.task.cancel()
                del self._members[role.name]
                self._complaints.note(f"watch {known.follower.which}", None)
                known = None
            if role.role == Role.MASTER and known is None:
                follower = self._follower(Which(labels=self._keys[role.name].members))
                self._members[role.name] = _Members(
                    mastership=mastership,
                    follower=follower,
                    task=self._tasks.create_task(follower.run()),
                    patient_until=asyncio.get_running_loop().time() + GRACE,
                    answered=set(),
                )

    def _changed(self) -> None:
        self._loop.wake()
        self._aside.look()

    def _follower(self, which: Which) -> Follower[Pod]:
        return Follower(
            self._api,
            which,
            changed=self._changed,
            failed=lambda error: self._complaints.note(f"watch {which}", error),
            jitter=self._jitter,
        )


def _life(pod: Pod) -> str:
    return pod.uid or pod.name


def which_of(group: MirroredGroup, *, pod: str, node: str) -> Which:
    """Return which pods carry a group's role: the sidecar's own, or those of its node that a selector chooses."""
    if group.mirror.target_selector:
        return Which(labels=group.mirror.target_selector, fields=f"spec.nodeName={node}")
    return Which(fields=f"metadata.name={pod}")
