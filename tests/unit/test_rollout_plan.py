"""Which pod is next: the order, what has to be well before, and that it ends."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.rollout.plan import Done, Fleet, Pod, Replace, Standing, Wait, next_step, standing

NODES = ("node-a", "node-b", "node-c")
BACKUPS = dict.fromkeys(NODES, "backup")
WITH_A = {"carp-role": {**BACKUPS, "node-a": "master"}}


def pod(node: str, revision: str = "old", *, ready: bool = True, terminating: bool = False) -> Pod:
    name = f"{node}-{revision}"
    return Pod(
        name=name,
        uid=name,
        resource_version="1",
        node=node,
        revision=revision,
        ready=ready,
        terminating=terminating,
    )


def fleet(
    *pods: Pod, roles: Mapping[str, Mapping[str, str]] = WITH_A, desired: int = 3, observed: bool = True
) -> Fleet:
    return Fleet(revision="new", observed=observed, desired=desired, min_ready=10, pods=pods, roles=roles)


OLD = tuple(map(pod, NODES))


def why(now: Fleet, before: Standing = Standing(), *, available: tuple[str, ...] = ()) -> str:  # noqa: B008 - frozen
    step = next_step(now, before=before, available=available)
    assert isinstance(step, Wait), step
    return step.why


def test_backups_come_first_by_name_and_the_master_last() -> None:
    assert [each.node for each in fleet(*OLD).old] == ["node-b", "node-c", "node-a"]


def test_what_is_broken_comes_before_what_can_take_over_and_the_fewest_masters_before_more() -> None:
    broken = (pod("node-a"), pod("node-b"), pod("node-c", ready=False))
    assert [each.node for each in fleet(*broken).old] == ["node-c", "node-b", "node-a"]
    roles = {"carp-role-web": {"node-a": "master"}, "carp-role-db": {"node-a": "master", "node-b": "backup"}}
    roles["carp-role-mail"] = {"node-b": "master"}
    assert [each.node for each in fleet(*OLD, roles=roles).old] == ["node-c", "node-b", "node-a"]
    assert fleet(*OLD, roles=roles).mastered("node-a") == ("carp-role-db", "carp-role-web")


def test_nothing_is_done_where_all_is_new_or_there_is_nothing() -> None:
    new = tuple(pod(node, "new") for node in NODES)
    assert next_step(fleet(*new), before=Standing(), available=[each.uid for each in new]) == Done()
    assert next_step(fleet(desired=0), before=Standing(), available=()) == Done()


@pytest.mark.parametrize(
    ("pods", "reason"),
    [
        ((*OLD[:2], pod("node-c", terminating=True)), "node-c: pod node-c-old has not ended"),
        (OLD[:2], "2 of 3 nodes have a pod"),
        ((*OLD[:2], pod("node-c", "new", ready=False)), "node-c: pod node-c-new is not ready"),
        ((*OLD[:2], pod("node-c", "new")), "node-c: pod node-c-new has not been ready for 10 s"),
    ],
)
def test_the_next_one_waits_for_the_last(pods: tuple[Pod, ...], reason: str) -> None:
    assert why(fleet(*pods)) == reason


def test_an_old_pod_that_is_not_ready_is_no_reason_to_wait_since_it_may_be_what_is_to_be_mended() -> None:
    step = next_step(fleet(pod("node-a"), pod("node-b", ready=False), pod("node-c")), before=Standing(), available=())
    assert step == Replace(pod("node-b", ready=False))


def test_a_template_that_the_controller_has_not_seen_is_no_revision_yet() -> None:
    assert why(fleet(*OLD, observed=False)) == "the DaemonSet's controller has not taken up its newest template"


@pytest.mark.parametrize(
    ("roles", "reason"),
    [
        (BACKUPS, "carp-role: no node is master"),
        ({**BACKUPS, "node-a": "master", "node-b": "master"}, "carp-role: 2 masters, on node-a, node-b"),
        ({"node-a": "master", "node-c": "backup"}, "node-b: it has no carp-role any more"),
        ({**WITH_A["carp-role"], "node-b": "init"}, "node-b: it says carp-role=init and takes no part"),
    ],
)
def test_what_was_well_has_to_be_well_again(roles: dict[str, str], reason: str) -> None:
    now = fleet(pod("node-a"), pod("node-b", "new"), pod("node-c"), roles={"carp-role": roles})
    assert why(now, standing(fleet(*OLD)), available=("node-b-new",)) == reason


def test_what_was_not_well_is_not_waited_for() -> None:
    """The master may be a firewall, and two masters may be what the upgrade is to mend."""
    for roles in (BACKUPS, {**BACKUPS, "node-a": "master", "node-b": "master"}, {"node-a": "init"}, {}):
        now = fleet(*OLD, roles={"carp-role": roles})
        assert isinstance(next_step(now, before=standing(now), available=()), Replace)


def test_a_node_that_has_left_is_not_waited_for() -> None:
    now = fleet(*OLD[:2], desired=2, roles={"carp-role": {"node-a": "master", "node-b": "backup"}})
    assert isinstance(next_step(now, before=standing(fleet(*OLD)), available=()), Replace)


# A cluster that does anything it may ----------------------------------------------------------------------------------


@dataclasses.dataclass
class Story:
    """Nodes with groups; whoever is deleted comes back later, and each VIP of it goes to any pod that is ready."""

    fleet: Fleet
    moves: dict[str, int]

    def delete(self, gone: Pod, draw: st.DataObject) -> None:
        left = tuple(each for each in self.fleet.pods if each != gone)
        roles = {label: dict(by_node) for label, by_node in self.fleet.roles.items()}
        for label, by_node in roles.items():
            if by_node.pop(gone.node) == "master":
                ready = [each.node for each in left if each.ready]
                by_node[draw.draw(st.sampled_from(ready or [each.node for each in left]))] = "master"
                self.moves[label] += 1
        self.fleet = dataclasses.replace(self.fleet, pods=left, roles=roles)

    def bring_back(self, node: str) -> None:
        roles = {label: {**by_node, node: "backup"} for label, by_node in self.fleet.roles.items()}
        self.fleet = dataclasses.replace(self.fleet, pods=(*self.fleet.pods, pod(node, "new")), roles=roles)


@given(st.data())
def test_it_ends_never_ends_a_master_while_an_old_backup_is_left_and_has_one_node_in_hand(data: st.DataObject) -> None:
    nodes = [f"node-{number}" for number in range(data.draw(st.integers(2, 5)))]
    pods = tuple(
        pod(node, data.draw(st.sampled_from(["old", "new"])), ready=data.draw(st.sampled_from([True, True, False])))
        for node in nodes
    )
    pods = tuple(each if each.revision == "old" else dataclasses.replace(each, ready=True) for each in pods)
    labels = [f"carp-role-{number}" for number in range(data.draw(st.integers(1, 3)))]
    roles = {label: dict.fromkeys(nodes, "backup") for label in labels}
    for label in labels:
        roles[label][data.draw(st.sampled_from(nodes))] = "master"
    start = fleet(*pods, roles=roles, desired=len(nodes))
    story, before = Story(start, dict.fromkeys(labels, 0)), Standing()
    on_one_node = len({start.masters(label) for label in labels}) == 1
    for _ in start.old:
        now = story.fleet
        step = next_step(now, before=before, available={each.uid for each in now.pods})
        assert isinstance(step, Replace)
        if now.mastered(step.pod.node):
            assert all(now.mastered(each.node) for each in now.old), "a backup that is old was left"
        before = standing(now)
        story.delete(step.pod, data)
        assert isinstance(next_step(story.fleet, before=before, available={each.uid for each in now.pods}), Wait)
        story.bring_back(step.pod.node)
    done = next_step(story.fleet, before=before, available={each.uid for each in story.fleet.pods})
    assert done == Done()
    assert all(len(story.fleet.masters(label)) == 1 for label in labels)
    if on_one_node:
        assert all(count <= 1 for count in story.moves.values()), "each VIP moves once at most"
    assert all(count <= len({start.masters(label) for label in labels}) for count in story.moves.values())
