"""Which pod is replaced next, and what has to be well before. Pure: from what the API server says to a step."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sidecar.protocol.types import Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A pod of the DaemonSet. ``revision`` is the template that it was made from, ``ready`` its Ready condition.

    ``asked`` and ``answered`` are whom it is to stand aside for, and does (see ``agent.aside``).
    """

    name: str
    uid: str
    resource_version: str
    node: str
    revision: str
    ready: bool
    terminating: bool
    asked: str = ""
    answered: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """The DaemonSet as it is now.

    ``observed``: its controller has seen the newest template, which is ``revision``. ``desired`` nodes should have a
    pod, and a new one counts once it was ready for ``min_ready`` seconds. ``roles`` are by label, then by node; those
    with labels ``elsewhere`` are on other pods than ours, and come and go with these.
    """

    revision: str
    observed: bool
    desired: int
    min_ready: int
    pods: tuple[Pod, ...]
    roles: Mapping[str, Mapping[str, str]]
    elsewhere: frozenset[str] = frozenset()

    @property
    def old(self) -> tuple[Pod, ...]:
        """Return the pods that are to be replaced, in order: those that are master of the least, broken ones first."""
        old = [pod for pod in self.pods if pod.revision != self.revision]
        return tuple(sorted(old, key=lambda pod: (len(self.mastered(pod.node)), pod.ready, pod.node)))

    def mastered(self, node: str) -> tuple[str, ...]:
        """Return the labels by which a node is master."""
        return tuple(label for label, roles in sorted(self.roles.items()) if roles.get(node) == Role.MASTER)

    def is_backup(self, node: str, label: str) -> bool:
        """Tell whether a node could take over."""
        return self.roles.get(label, {}).get(node) == Role.BACKUP

    def masters(self, label: str) -> tuple[str, ...]:
        """Return the nodes that say master."""
        return tuple(node for node, role in sorted(self.roles.get(label, {}).items()) if role == Role.MASTER)


@dataclass(frozen=True, slots=True)
class Standing:
    """What was well before a pod was deleted: labels with one master, and who took part under which label, as node."""

    mastered: frozenset[str] = frozenset()
    taking_part: frozenset[tuple[str, str]] = frozenset()


def standing(fleet: Fleet) -> Standing:
    """Return what is well now. A group without a master here, or with two, is not ours to wait for."""
    return Standing(
        frozenset(label for label in fleet.roles if len(fleet.masters(label)) == 1),
        frozenset((label, node) for label, roles in fleet.roles.items() for node in roles if _takes_part(roles[node])),
    )


def _takes_part(role: str) -> bool:
    return role in (Role.MASTER, Role.BACKUP)


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing may be touched yet; ``why`` is for people."""

    why: str


@dataclass(frozen=True, slots=True)
class Ask:
    """``pod`` is next once ``others`` stand aside, for what it is master of to go to a node that is done.

    ``question`` tells this time of asking from earlier ones: an answer to these may be about to end.
    """

    pod: Pod
    labels: tuple[str, ...]
    others: tuple[Pod, ...]
    question: str = ""

    @property
    def word(self) -> str:
        """Return what is written on the others (``agent.aside`` reads it); no second one is the same."""
        return _word(self.pod, self.labels, self.question)


def _word(pod: Pod, labels: tuple[str, ...], question: str) -> str:
    return f"{' '.join(filter(None, (pod.name, question)))}: {','.join(labels)}"


@dataclass(frozen=True, slots=True)
class Replace:
    """This pod is next."""

    pod: Pod


@dataclass(frozen=True, slots=True)
class Done:
    """All pods are new and well."""


Step = Wait | Ask | Replace | Done


def next_step(
    fleet: Fleet,
    *,
    before: Standing,
    available: Collection[str],
    deaf: Collection[str] = frozenset(),
    question: str = "",
) -> Step:
    """Return what is to be done.

    ``available`` are the uids of the pods that have been ready for long enough, ``deaf`` of those that do not answer,
    ``question`` is what an answer has to be to (see Ask).

    What is replaced has to be back before the next one's turn, and so does what was well before it. An old pod that is
    not well is nothing to wait for: it may be what the rollout is to mend.
    """
    fault = _unsettled(fleet, available) or _lost(fleet, before)
    if fault:
        return Wait(fault)
    if not fleet.old:
        return Done()
    following = fleet.old[0]
    return _ask(fleet, following, deaf, question) or Replace(following)


def _ask(fleet: Fleet, pod: Pod, deaf: Collection[str], question: str) -> Ask | None:
    """Return who is yet to stand aside: the other old ones, where a new one can take over what ``pod`` is master of.

    A node that is done is not replaced any more: what went to it has moved for the last time.
    """
    labels = tuple(
        label
        for label in fleet.mastered(pod.node)
        if any(each.revision == fleet.revision and fleet.is_backup(each.node, label) for each in fleet.pods)
    )
    others = tuple(
        each
        for each in fleet.old
        if each.uid != pod.uid and each.uid not in deaf and each.answered != _word(pod, labels, question)
    )
    return Ask(pod, labels, others, question) if labels and others else None


def _unsettled(fleet: Fleet, available: Collection[str]) -> str:
    """Return what the DaemonSet's controller or a kubelet has not done yet, or ""."""
    if not fleet.observed:
        return "the DaemonSet's controller has not taken up its newest template"
    for pod in fleet.pods:
        if pod.terminating:
            return f"{pod.node}: pod {pod.name} has not ended"
    if len(fleet.pods) < fleet.desired:
        return f"{len(fleet.pods)} of {fleet.desired} nodes have a pod"
    for pod in fleet.pods:
        if pod.revision == fleet.revision and not pod.ready:
            return f"{pod.node}: pod {pod.name} is not ready"
        if pod.revision == fleet.revision and pod.uid not in available:
            return f"{pod.node}: pod {pod.name} has not been ready for {fleet.min_ready} s"
    return ""


def _lost(fleet: Fleet, before: Standing) -> str:
    """Return what was well and is not any more, or ""."""
    there = {pod.node for pod in fleet.pods}
    for label, node in sorted(before.taking_part):
        role = fleet.roles.get(label, {}).get(node, "")
        if label in fleet.elsewhere and not role:
            continue  # the pod that bore it has left the node, and no sidecar with it
        if node in there and not _takes_part(role):
            return (
                f"{node}: it says {label}={role} and takes no part" if role else f"{node}: it has no {label} any more"
            )
    for label in sorted(before.mastered):
        masters = fleet.masters(label)
        if len(masters) != 1:
            return f"{label}: {f'{len(masters)} masters, on ' + ', '.join(masters) if masters else 'no node is master'}"
    return ""
