"""What the pods should say, given the roles: pure functions from facts to metadata."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sidecar.ipc.messages import GroupRole, MirroredGroup
from sidecar.observe.moment import rfc3339
from sidecar.protocol.types import Role

PREFIX = "carp-sidecar/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """What the mirror reads of a pod."""

    name: str
    resource_version: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """Labels and annotations to be set; others are left alone."""

    labels: Mapping[str, str]
    annotations: Mapping[str, str]

    def missing_from(self, pod: Pod) -> Metadata | None:
        """Return what ``pod`` does not say yet, or None if it says it all."""
        labels = {key: value for key, value in self.labels.items() if pod.labels.get(key) != value}
        annotations = {key: value for key, value in self.annotations.items() if pod.annotations.get(key) != value}
        return Metadata(labels=labels, annotations=annotations) if labels or annotations else None

    def merged(self, other: Metadata) -> Metadata:
        """Return both."""
        return Metadata(labels={**self.labels, **other.labels}, annotations={**self.annotations, **other.annotations})


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupKeys:
    """The label and annotation keys of one group in a pod that runs one group or several."""

    label: str
    group: str
    several: bool

    def annotation(self, name: str) -> str:
        """Return ``carp-sidecar/NAME``, or ``carp-sidecar/GROUP.NAME`` in a pod with several groups."""
        return f"{PREFIX}{self.group}.{name}" if self.several else f"{PREFIX}{name}"


def keys(*, role_label: str, group: str, several: bool) -> GroupKeys:
    """Return a group's keys: ``carp-role``, or ``carp-role-GROUP`` in a pod with several groups."""
    return GroupKeys(label=f"{role_label}-{group}" if several else role_label, group=group, several=several)


def metadata(*, group: MirroredGroup, role: GroupRole, using: GroupKeys, epoch: int | None) -> Metadata:
    """Return what the sidecar's own pod should say of one group. ``epoch`` None leaves the annotation as it is."""
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


def epoch_of(pod: Pod, using: GroupKeys) -> int:
    """Return the epoch that a pod claims, 0 if it claims none."""
    text = pod.annotations.get(using.annotation("epoch"), "")
    return int(text) if text.isascii() and text.isdigit() else 0


def next_epoch(pods: Iterable[Pod], using: GroupKeys) -> int:
    """Return an epoch newer than every one that ``pods`` claim."""
    return 1 + max((epoch_of(pod, using) for pod in pods), default=0)


def is_same_group(pod: Pod, group: MirroredGroup, using: GroupKeys) -> bool:
    """Tell whether a pod speaks of the same group: one vhid with the same VIPs."""
    return pod.annotations.get(using.annotation("vhid")) == str(group.vhid) and pod.annotations.get(
        using.annotation("vips")
    ) == vips_text(group)


def superseded(*, pods: Iterable[Pod], own: str, group: MirroredGroup, using: GroupKeys, epoch: int) -> list[Pod]:
    """Return the pods that still say master although this node took over later (``epoch`` is this node's)."""
    return [
        pod
        for pod in pods
        if pod.name != own
        and pod.labels.get(using.label) == Role.MASTER
        and is_same_group(pod, group, using)
        and epoch_of(pod, using) < epoch
    ]


def demoted(*, by: str, using: GroupKeys) -> Metadata:
    """Return what a superseded pod should say: it is not master, since ``by`` is."""
    return Metadata(
        labels={using.label: Role.BACKUP},
        annotations={using.annotation("reason"): f"superseded by {by}"},
    )


def vips_text(group: MirroredGroup) -> str:
    """Return the VIPs in the form that annotations carry."""
    return ",".join(group.vips)
