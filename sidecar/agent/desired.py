"""What Kubernetes should say, given the roles: pure functions from facts to metadata, conditions and claims.

A node that becomes master claims its mastership with an epoch newer than all that it sees, and relabels those that say
master still. ``stand`` decides who may say master where several nodes claim.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from sidecar.ipc.messages import GroupRole, MirroredGroup, Snapshot
from sidecar.observe.moment import rfc3339
from sidecar.protocol.types import Reason, Role

PREFIX = "carp-sidecar/"
_ANNOTATIONS = ("vips", "vhid", "interface", "since", "transitions", "reason", "epoch")
_SUPERSEDED = "superseded by "
_DRAINING = "draining"
"""The reason while a node that is about to hand over is still master."""

POLITE = frozenset({Reason.BOW_OUT, Reason.HANDED_OVER, Reason.PREEMPT, Reason.SLOWER_MASTER, Reason.DEMOTED_MASTER})
"""Reasons for a takeover from somebody who is alive, and whose own agent says so within moments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """What the mirror reads of a pod. ``ready`` is its Ready condition, ``conditions`` are our own: type to status.

    ``ended`` tells that its containers have, for good: an evicted pod stays like that until somebody deletes it.
    """

    name: str
    resource_version: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    uid: str = ""
    terminating: bool = False
    ended: bool = False
    ready: bool = True
    conditions: Mapping[str, str] = field(default_factory=dict)
    ips: tuple[str, ...] = ()

    @property
    def lives(self) -> bool:
        """Tell whether Kubernetes believes that it runs."""
        return self.ready and not self.terminating and not self.ended


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """A pod's condition. ``since`` is RFC 3339."""

    type: str
    status: str
    reason: str
    message: str
    since: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """Labels, annotations and conditions to be set; others are left alone."""

    labels: Mapping[str, str | None]
    """None takes one away; so it does of the annotations."""
    annotations: Mapping[str, str | None]
    conditions: tuple[Condition, ...] = ()
    without: tuple[str, ...] = ()
    """Types of the conditions to be taken away."""

    def missing_from(self, pod: Pod) -> Metadata | None:
        """Return what ``pod`` does not say yet, or None if it says it all."""
        labels = {key: value for key, value in self.labels.items() if pod.labels.get(key) != value}
        annotations = {key: value for key, value in self.annotations.items() if pod.annotations.get(key) != value}
        conditions = tuple(each for each in self.conditions if pod.conditions.get(each.type) != each.status)
        without = tuple(each for each in self.without if each in pod.conditions)
        if not (labels or annotations or conditions or without):
            return None
        return Metadata(labels=labels, annotations=annotations, conditions=conditions, without=without)

    def merged(self, other: Metadata) -> Metadata:
        """Return both."""
        return Metadata(
            labels={**self.labels, **other.labels},
            annotations={**self.annotations, **other.annotations},
            conditions=(*self.conditions, *other.conditions),
            without=(*self.without, *other.without),
        )


NOTHING = Metadata(labels={}, annotations={})


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupKeys:
    """The label, annotation and condition names of one group in a pod that runs one group or several."""

    label: str
    group: str
    several: bool

    def annotation(self, name: str) -> str:
        """Return ``carp-sidecar/NAME``, or ``carp-sidecar/GROUP.NAME`` in a pod with several groups."""
        return f"{PREFIX}{self.group}.{name}" if self.several else f"{PREFIX}{name}"

    @property
    def condition(self) -> str:
        """Return ``carp-sidecar/master``, or ``carp-sidecar/master-GROUP`` in a pod with several groups."""
        return f"{PREFIX}master-{self.group}" if self.several else f"{PREFIX}master"

    @property
    def annotations(self) -> frozenset[str]:
        """Return the names of all annotations."""
        return frozenset(map(self.annotation, _ANNOTATIONS))

    @property
    def members(self) -> str:
        """Return the selector of the pods that carry the role at all."""
        return self.label


def keys(*, role_label: str, group: str, several: bool) -> GroupKeys:
    """Return a group's keys: ``carp-role``, or ``carp-role-GROUP`` in a pod with several groups."""
    return GroupKeys(label=f"{role_label}-{group}" if several else role_label, group=group, several=several)


# What a pod says -----------------------------------------------------------------------------------------------------


def metadata(*, group: MirroredGroup, role: GroupRole, using: GroupKeys, epoch: int | None) -> Metadata:
    """Return what a pod of this node should say of one group. ``epoch`` None leaves the annotation as it is."""
    annotations = {
        using.annotation("vips"): vips_text(group),
        using.annotation("vhid"): str(group.vhid),
        using.annotation("interface"): group.interface,
        using.annotation("since"): rfc3339(role.since),
        using.annotation("transitions"): str(role.transitions),
        using.annotation("reason"): role.reason,
    }
    if epoch is not None:
        annotations[using.annotation("epoch")] = str(epoch)
    return Metadata(labels={using.label: role.role}, annotations=annotations)


def yielding(snapshot: Snapshot, groups: Collection[str]) -> Snapshot:
    """Return the roles as they are shown while this node lets go of some groups: it is not master of those."""
    return Snapshot(
        groups=tuple(
            replace(role, role=Role.BACKUP.value, reason=_DRAINING)
            if role.name in groups and role.role == Role.MASTER
            else role
            for role in snapshot.groups
        )
    )


def demoted(*, by: str, using: GroupKeys) -> Metadata:
    """Return what a superseded pod should say: it is not master, since ``by`` is."""
    return Metadata(
        labels={using.label: Role.BACKUP.value},
        annotations={using.annotation("reason"): f"{_SUPERSEDED}{by}"},
    )


def is_accused(targets: Iterable[Pod], using: GroupKeys) -> bool:
    """Tell whether somebody has relabelled a pod of this node as one that it took over from."""
    return any(
        pod.labels.get(using.label) != Role.MASTER
        and pod.annotations.get(using.annotation("reason"), "").startswith(_SUPERSEDED)
        for pod in targets
    )


def with_condition(said: Metadata, *, using: GroupKeys, since: float) -> Metadata:
    """Return ``said`` with the condition that goes with its label."""
    is_master = said.labels[using.label] == Role.MASTER
    condition = Condition(
        type=using.condition,
        status="True" if is_master else "False",
        reason="Master" if is_master else "NotMaster",
        message=said.annotations[using.annotation("reason")] or "",
        since=rfc3339(since),
    )
    return Metadata(labels=said.labels, annotations=said.annotations, conditions=(condition,))


def vips_text(group: MirroredGroup) -> str:
    """Return the VIPs in the form that annotations carry."""
    return ",".join(group.vips)


# What a pod should not say any more ----------------------------------------------------------------------------------


def told_by(pod: Pod, role_label: str) -> tuple[GroupKeys, ...]:
    """Return the keys of the groups that a pod tells of, whoever wrote that and when."""
    found = (re.fullmatch(rf"{PREFIX}(?:(.+)\.)?vhid", key) for key in sorted(pod.annotations))
    return tuple(
        keys(role_label=role_label, group=match[1] or "", several=match[1] is not None) for match in found if match
    )


def outdated(
    pod: Pod, *, former: Iterable[GroupKeys], current: Iterable[GroupKeys], conditions: bool
) -> Metadata | None:
    """Return what takes away from ``pod`` all that is of former groups and not of current ones, None if nothing is.

    ``conditions`` tells whether current groups have theirs.
    """
    now = tuple(current)
    ever = (*former, *now)
    labels = {using.label for using in ever} - {using.label for using in now}
    annotations = {name for using in ever for name in using.annotations}
    annotations -= {name for using in now for name in using.annotations}
    types = {using.condition for using in ever} - {using.condition for using in now if conditions}
    gone = Metadata(
        labels=dict.fromkeys(sorted(labels)),
        annotations=dict.fromkeys(sorted(annotations)),
        without=tuple(sorted(types)),
    )
    return gone.missing_from(pod)


# Who may say master --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, order=True)
class Claim:
    """A mastership as a pod tells of it; of two the greater one counts, and no two pods' are equal."""

    epoch: int
    pod: str


@dataclass(frozen=True, slots=True)
class Mastership:
    """Which mastership of which pod: what an answer to a claim is remembered by."""

    uid: str
    since: str
    transitions: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stand:
    """What a master does about the pods that say master besides its own.

    It relabels ``stale``; ``begins`` tells that this is a claim of a new epoch; ``answers`` is the newer claim that it
    contradicts, once; ``defers_to`` is the pod whose claim stands instead of ours.
    """

    epoch: int
    stale: tuple[Pod, ...] = ()
    begins: bool = False
    answers: Mastership | None = None
    defers_to: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a master knows of its group.

    ``targets`` are the pods of its node, ``rivals`` the others that say master, ``answered`` the masterships that it
    has contradicted already, ``newest`` an epoch known from elsewhere.
    """

    targets: Sequence[Pod]
    rivals: Sequence[Pod]
    answered: Collection[Mastership] = ()
    newest: int = 0


def stand(*, role: GroupRole, using: GroupKeys, seen: Seen) -> Stand:
    """Decide for a node that the network made master.

    Two nodes that both are master for good, because the LAN is cut between them, contradict each other once each and
    then leave it at that.
    """
    targets, rivals = seen.targets, seen.rivals
    claims = [claim_of(pod, using) for pod in targets if _tells_of(pod, role, using)]
    following = 1 + max((epoch_of(pod, using) for pod in (*targets, *rivals)), default=0)
    following = max(following, seen.newest + 1)
    if not claims:
        return Stand(epoch=following, stale=tuple(rivals), begins=True)
    own = max(claims)
    newer = [pod for pod in rivals if claim_of(pod, using) > own]
    if not newer:
        outdated = own.epoch < seen.newest
        return Stand(epoch=following if outdated else own.epoch, stale=tuple(rivals), begins=outdated)
    strongest = max(newer, key=lambda pod: claim_of(pod, using))
    mastership = mastership_of(strongest, using)
    if strongest.lives and mastership in seen.answered:
        return Stand(epoch=own.epoch, defers_to=strongest.name)
    return Stand(epoch=following, stale=tuple(rivals), begins=True, answers=mastership)


def _tells_of(pod: Pod, role: GroupRole, using: GroupKeys) -> bool:
    """Tell whether a pod claims this very mastership; that its label was changed does not matter."""
    said = mastership_of(pod, using)
    known = (said.since, said.transitions) == (rfc3339(role.since), str(role.transitions))
    return known and epoch_of(pod, using) > 0


def mastership_of(pod: Pod, using: GroupKeys) -> Mastership:
    """Return which mastership a pod claims."""
    said = pod.annotations
    return Mastership(pod.uid, said.get(using.annotation("since"), ""), said.get(using.annotation("transitions"), ""))


def claim_of(pod: Pod, using: GroupKeys) -> Claim:
    """Return a pod's claim."""
    return Claim(epoch_of(pod, using), pod.name)


def epoch_of(pod: Pod, using: GroupKeys) -> int:
    """Return the epoch that a pod claims, 0 if it claims none."""
    text = pod.annotations.get(using.annotation("epoch"), "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 18 else 0


def newest_among(pods: Iterable[Pod], *, group: MirroredGroup, using: GroupKeys) -> int:
    """Return the newest epoch that a pod of the same group has ever claimed, 0 if none has."""
    return max((epoch_of(pod, using) for pod in pods if is_same_group(pod, group, using)), default=0)


def rivals_among(
    pods: Iterable[Pod], *, targets: Iterable[Pod], group: MirroredGroup, using: GroupKeys
) -> tuple[Pod, ...]:
    """Return the pods, other than this node's, that say master of the same group: one vhid with the same VIPs."""
    own = {pod.uid for pod in targets}
    return tuple(
        pod
        for pod in pods
        if pod.uid not in own and pod.labels.get(using.label) == Role.MASTER and is_same_group(pod, group, using)
    )


def is_same_group(pod: Pod, group: MirroredGroup, using: GroupKeys) -> bool:
    """Tell whether a pod speaks of the same group: one vhid with the same VIPs."""
    return pod.annotations.get(using.annotation("vhid")) == str(group.vhid) and pod.annotations.get(
        using.annotation("vips")
    ) == vips_text(group)
