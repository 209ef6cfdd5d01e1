"""Which pod is next: the order, what has to be well before, and that it ends."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.rollout.plan import Ask, Done, Fleet, Pod, Replace, Standing, Wait, next_step, standing

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


# Who stands aside -----------------------------------------------------------------------------------------------------


TWO = {"carp-role-db": {**BACKUPS, "node-b": "master"}, "carp-role-web": {**BACKUPS, "node-a": "master"}}


def asked(now: Fleet, *, deaf: tuple[str, ...] = ()) -> Ask | Replace:
    step = next_step(now, before=Standing(), available=[each.uid for each in now.pods], deaf=deaf)
    assert isinstance(step, Ask | Replace), step
    return step


def test_before_a_master_goes_the_other_old_ones_stand_aside_for_a_new_one() -> None:
    roles = {**TWO, "carp-role-mail": TWO["carp-role-db"]}
    now = fleet(pod("node-a"), pod("node-b"), pod("node-c", "new"), roles=roles)
    step = asked(now)
    assert step == Ask(pod("node-a"), ("carp-role-web",), (pod("node-b"),)), "not in the groups that it keeps"
    assert isinstance(step, Ask)
    assert step.word == "node-a-old: carp-role-web"
    answered = dataclasses.replace(pod("node-b"), answered=step.word)
    assert asked(dataclasses.replace(now, pods=(now.pods[0], answered, now.pods[2]))) == Replace(pod("node-a"))
    assert asked(now, deaf=("node-b-old",)) == Replace(pod("node-a"))


def test_the_same_asked_at_another_time_is_another_word() -> None:
    now = fleet(pod("node-a"), pod("node-b"), pod("node-c", "new"), roles=TWO)
    step = next_step(now, before=Standing(), available=[each.uid for each in now.pods], question="x-1")
    assert isinstance(step, Ask)
    assert step.word.startswith("node-a-old x-1: ")
    answered = dataclasses.replace(pod("node-b"), answered=step.word)
    now = dataclasses.replace(now, pods=(now.pods[0], answered, now.pods[2]))
    for question, expected in (("x-1", Replace), ("x-2", Ask)):
        after = next_step(now, before=Standing(), available=[each.uid for each in now.pods], question=question)
        assert isinstance(after, expected)


def test_an_answer_to_another_question_is_none() -> None:
    earlier = dataclasses.replace(pod("node-b"), answered="node-c-old: carp-role")
    roles = {"carp-role": WITH_A["carp-role"], **dict.fromkeys(("carp-role-x", "carp-role-y"), TWO["carp-role-db"])}
    assert asked(fleet(pod("node-a"), earlier, pod("node-c", "new"), roles=roles)) == Ask(
        pod("node-a"), ("carp-role",), (earlier,)
    )


@pytest.mark.parametrize("role", ["init", "master", ""])
def test_nobody_is_asked_where_no_new_pod_could_take_over(role: str) -> None:
    roles = {"carp-role": {**BACKUPS, "node-a": "master", "node-c": role}, "carp-role-x": {"node-b": "master"}}
    roles["carp-role-y"] = roles["carp-role-x"]
    now = fleet(pod("node-a"), pod("node-b"), pod("node-c", "new"), roles=roles)
    assert asked(now) == Replace(pod("node-a"))
    assert asked(fleet(*OLD, roles=TWO)) == Replace(pod("node-c")), "nor for one that is master of nothing"


def test_a_role_that_other_pods_bear_goes_with_them() -> None:
    before = fleet(*OLD)
    gone = {"carp-role": {**WITH_A["carp-role"]}}
    del gone["carp-role"]["node-b"]
    now = dataclasses.replace(fleet(*OLD, roles=gone), elsewhere=frozenset(gone))
    assert isinstance(next_step(now, before=standing(before), available=()), Replace)


# A cluster that does anything it may ----------------------------------------------------------------------------------


@dataclasses.dataclass
class Story:
    """Nodes with groups, whose VIPs go to any ready pod that does not stand aside, or to any if all do.

    In ``preempting`` ones they go to the best of these, as ``ranks`` has them, and back to that once it is there.
    """

    fleet: Fleet
    ranks: Mapping[str, list[str]]
    preempting: frozenset[str]
    moves: dict[str, int]
    aside: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)

    def ask(self, step: Ask) -> None:
        self.aside |= {each.uid: step.labels for each in step.others}
        pods = tuple(
            dataclasses.replace(each, answered=step.word) if each in step.others else each for each in self.fleet.pods
        )
        self.fleet = dataclasses.replace(self.fleet, pods=pods)

    def delete(self, gone: Pod, data: st.DataObject) -> None:
        left = tuple(each for each in self.fleet.pods if each.node != gone.node)
        roles = {label: dict(by_node) for label, by_node in self.fleet.roles.items()}
        for label, by_node in roles.items():
            if by_node.pop(gone.node) != "master":
                continue
            ready = [each for each in left if each.ready] or list(left)
            first = [each.node for each in ready if label not in self.aside.get(each.uid, ())]
            candidates = sorted(first or [each.node for each in ready], key=self.ranks[label].index)
            by_node[candidates[0] if label in self.preempting else data.draw(st.sampled_from(candidates))] = "master"
            self.moves[label] += 1
        self.fleet = dataclasses.replace(self.fleet, pods=left, roles=roles)

    def bring_back(self, node: str) -> None:
        roles = {label: {**by_node, node: "backup"} for label, by_node in self.fleet.roles.items()}
        for label in self.preempting & roles.keys():
            (master,) = self.fleet.masters(label)
            if self.ranks[label].index(node) < self.ranks[label].index(master):
                roles[label] |= {master: "backup", node: "master"}
                self.moves[label] += 1
        self.fleet = dataclasses.replace(self.fleet, pods=(*self.fleet.pods, pod(node, "new")), roles=roles)


@given(st.data())
def test_it_ends_and_each_vip_moves_once_but_for_those_of_a_first_node_that_had_no_new_one_beside_it(
    data: st.DataObject,
) -> None:
    nodes = [f"node-{number}" for number in range(data.draw(st.integers(2, 5)))]
    pods = tuple(pod(node, data.draw(st.sampled_from(["old", "new"]))) for node in nodes)
    pods = tuple(
        dataclasses.replace(each, ready=each.revision == "new" or data.draw(st.sampled_from([True, True, False])))
        for each in pods
    )
    labels = [f"carp-role-{number}" for number in range(data.draw(st.integers(1, 5)))]
    ranks = {label: data.draw(st.permutations(nodes)) for label in labels}
    preempting = frozenset(data.draw(st.sets(st.sampled_from(labels))))
    roles = {label: dict.fromkeys(nodes, "backup") for label in labels}
    for label in labels:
        roles[label][ranks[label][0] if label in preempting else data.draw(st.sampled_from(nodes))] = "master"
    start = fleet(*pods, roles=roles, desired=len(nodes))
    story, before = Story(start, ranks, preempting, dict.fromkeys(labels, 0)), Standing()
    twice: tuple[str, ...] = ()
    for _ in start.old:
        now = story.fleet
        available = {each.uid for each in now.pods}
        step = next_step(now, before=before, available=available)
        if isinstance(step, Ask):
            assert all(each.revision == "old" for each in step.others)
            assert not any(set(step.labels) & set(now.mastered(each.node)) for each in step.others), "no master is"
            story.ask(step)
            step = next_step(story.fleet, before=before, available=available)
        assert isinstance(step, Replace)
        mastered = now.mastered(step.pod.node)
        assert all(len(now.mastered(each.node)) >= len(mastered) for each in now.old)
        if mastered and len(now.old) == len(now.pods):
            assert len(mastered) == min(len(now.mastered(each.node)) for each in start.pods)
            twice = mastered
        before = standing(now)
        story.delete(step.pod, data)
        assert isinstance(next_step(story.fleet, before=before, available=available), Wait)
        story.bring_back(step.pod.node)
    done = next_step(story.fleet, before=before, available={each.uid for each in story.fleet.pods})
    assert done == Done()
    assert all(len(story.fleet.masters(label)) == 1 for label in labels)
    for label, count in story.moves.items():
        assert count <= (2 if label in preempting or label in twice else 1), label
    if any(not start.mastered(node) for node in nodes):
        assert not twice, "one that is master of nothing comes first"
