"""A rollout from beginning to end: what is told, how long it waits, what ends it; the clock is a number."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from sidecar.agent.errors import ApiError
from sidecar.rollout.cluster import RolloutError
from sidecar.rollout.plan import Fleet, Pod
from sidecar.rollout.steps import News, Rollout
from tests.unit.test_rollout_plan import NODES, WITH_A, fleet, pod


@dataclass
class FakeCluster:
    """A pod's successor is there at once and ready ``starting`` seconds later; the first other node takes over."""

    now: float = 0.0
    starting: float = 5.0
    fleet: Fleet = field(default_factory=lambda: fleet(*map(pod, NODES)))
    ready_at: dict[str, float] = field(default_factory=dict)
    deleted: list[str] = field(default_factory=list)
    faults: list[Exception] = field(default_factory=list)
    refusals: list[Exception] = field(default_factory=list)
    after_delete: Callable[[], None] = lambda: None
    before_look: Callable[[], None] = lambda: None
    asked: list[tuple[str, str]] = field(default_factory=list)
    answers: bool = True
    unheard: list[Exception] = field(default_factory=list)

    async def sleep(self, seconds: float) -> None:
        self.now += seconds

    async def look(self) -> Fleet:
        self.before_look()
        if self.faults:
            raise self.faults.pop(0)
        pods = tuple(
            dataclasses.replace(each, ready=self.now >= self.ready_at.get(each.uid, 0.0)) for each in self.fleet.pods
        )
        return dataclasses.replace(self.fleet, pods=pods)

    async def ask(self, one: Pod, word: str) -> None:
        self.asked.append((one.node, word))
        if self.unheard:
            raise self.unheard.pop(0)
        said = dataclasses.replace(one, asked=word, answered=word if self.answers else "")
        pods = tuple(said if each.uid == one.uid else each for each in self.fleet.pods)
        self.fleet = dataclasses.replace(self.fleet, pods=pods)

    def edit(self, node: str, **changes: str) -> None:
        pods = tuple(
            dataclasses.replace(each, **changes) if each.node == node else each  # type: ignore[arg-type]
            for each in self.fleet.pods
        )
        self.fleet = dataclasses.replace(self.fleet, pods=pods)

    async def delete(self, gone: Pod) -> None:
        if self.refusals:
            raise self.refusals.pop(0)
        self.deleted.append(gone.node)
        made = pod(gone.node, "new")
        self.ready_at[made.uid] = self.now + self.starting
        everywhere = {label: dict(roles) for label, roles in self.fleet.roles.items()}
        for roles in everywhere.values():
            if roles[gone.node] == "master":
                roles[next(node for node in NODES if node != gone.node)] = "master"
            roles[gone.node] = "backup"
        pods = tuple(made if each.node == gone.node else each for each in self.fleet.pods)
        self.fleet = dataclasses.replace(self.fleet, pods=pods, roles=everywhere)
        self.after_delete()

    def roll(self, *, patience: float = 60.0) -> list[News]:
        told: list[News] = []
        rollout = Rollout(self, told.append, name="r", patience=patience, clock=lambda: self.now, sleep=self.sleep)
        asyncio.run(rollout.run())
        return told


def test_one_node_after_the_other_the_master_last_and_its_vip_moves_once() -> None:
    cluster = FakeCluster()
    assert cluster.roll() == [
        News(event="replacing", node="node-b", pod="node-b-old"),
        News(event="ready", node="node-b", pod="node-b-new", replaced=1),
        News(event="replacing", node="node-c", pod="node-c-old"),
        News(event="ready", node="node-c", pod="node-c-new", replaced=2),
        News(event="replacing", node="node-a", pod="node-a-old", master_of=("carp-role",)),
        News(event="ready", node="node-a", pod="node-a-new", replaced=3),
        News(event="done", replaced=3, moves=(("carp-role", 1, "node-b"),)),
    ]
    assert cluster.deleted == ["node-b", "node-c", "node-a"]
    assert 45 <= cluster.now < 60, "5 s until it is ready, 10 s for minReadySeconds, thrice"


def test_a_second_run_finds_nothing_to_do() -> None:
    cluster = FakeCluster()
    cluster.roll()
    assert cluster.roll() == [News(event="done", replaced=0, moves=(("carp-role", 0, "node-b"),))]
    assert len(cluster.deleted) == 3


def test_a_node_that_does_not_come_back_ends_it_and_the_rest_is_untouched() -> None:
    cluster = FakeCluster(starting=1000.0)
    with pytest.raises(
        RolloutError, match="node-b: pod node-b-new is not ready, after 60 s; 2 more pods are as before"
    ):
        cluster.roll()
    assert cluster.deleted == ["node-b"]
    with pytest.raises(RolloutError, match="node-b: pod node-b-new is not ready"):
        cluster.roll()
    assert cluster.deleted == ["node-b"], "nor does another try go past it"
    cluster.starting = 5.0
    cluster.now = 2000.0
    assert [each.node for each in cluster.roll() if each.event == "replacing"] == ["node-c", "node-a"]


def test_what_is_waited_for_is_told_once_where_it_takes_its_time() -> None:
    told = FakeCluster(starting=40.0).roll()
    waited = [each.why for each in told if each.event == "waiting"]
    assert waited == [f"{node}: pod {node}-new is not ready" for node in ("node-b", "node-c", "node-a")]


def test_a_group_without_its_master_ends_it() -> None:
    cluster = FakeCluster()

    def lose() -> None:
        roles = {"carp-role": dict.fromkeys(NODES, "backup")}
        cluster.fleet = dataclasses.replace(cluster.fleet, roles=roles)

    cluster.after_delete = lose
    with pytest.raises(RolloutError, match="carp-role: no node is master, after 60 s; 2 more pods are as before"):
        cluster.roll()
    assert cluster.deleted == ["node-b"]


def test_an_api_server_that_is_away_for_a_while_is_waited_for_and_no_longer_than_for_a_node() -> None:
    away = ApiError("the API server cannot be reached: refused")
    cluster = FakeCluster(faults=[away] * 10)
    told = cluster.roll()
    assert told[0] == News(event="waiting", why=str(away)), "told at once, and once"
    assert [each.event for each in told].count("waiting") == 1
    assert told[-1].event == "done"
    cluster = FakeCluster(faults=[away] * 1000)
    with pytest.raises(RolloutError, match="cannot be reached"):
        cluster.roll()
    assert 60 < cluster.now < 70
    assert cluster.deleted == []


def test_a_right_that_is_missing_ends_it_soon_and_is_named() -> None:
    forbidden = ApiError("the right to delete pods in namespace carp is missing (403); bind", 403, right="delete pods")
    cluster = FakeCluster(refusals=[forbidden] * 1000)
    with pytest.raises(RolloutError, match="the right to delete pods in namespace carp is missing"):
        cluster.roll()
    assert 10 < cluster.now < 30
    cluster = FakeCluster(refusals=[forbidden] * 2)
    assert cluster.roll()[-1].replaced == 3, "a binding that was just made takes a moment"


@pytest.mark.parametrize("status", [404, 409])
def test_a_pod_that_has_changed_since_it_was_read_is_looked_at_anew(status: int) -> None:
    cluster = FakeCluster(refusals=[ApiError("changed", status)])
    told = cluster.roll()
    assert [each.node for each in told if each.event == "replacing"] == ["node-b", "node-c", "node-a"]
    assert told[-1].replaced == 3


def test_a_deletion_whose_answer_was_lost_is_seen_by_what_follows() -> None:
    cluster = FakeCluster()

    def lose() -> None:
        cluster.after_delete = lambda: None
        raise ApiError("the API server does not answer in time")

    cluster.after_delete = lose
    told = cluster.roll()
    assert told[-1].replaced == 3
    assert cluster.deleted == ["node-b", "node-c", "node-a"]


def test_moves_are_told_of_groups_that_had_a_master() -> None:
    none = fleet(*map(pod, NODES), roles={"carp-role": dict.fromkeys(NODES, "backup")})
    assert FakeCluster(fleet=none).roll()[-1].moves == ()
    assert FakeCluster(fleet=fleet(*map(pod, NODES), roles=WITH_A)).roll()[-1].moves == (("carp-role", 1, "node-b"),)


# Standing aside ------------------------------------------------------------------------------------------------------


def spread() -> FakeCluster:
    roles = {
        "carp-role-db": {"node-a": "master", "node-b": "backup", "node-c": "backup"},
        "carp-role-web": {"node-a": "backup", "node-b": "master", "node-c": "backup"},
    }
    return FakeCluster(fleet=fleet(*map(pod, NODES), roles=roles))


def asking(told: list[News]) -> list[str]:
    return [f"{each.node}: {each.why}" for each in told if each.event == "asking"]


def test_whoever_is_old_is_asked_to_stand_aside_and_told_of_once() -> None:
    cluster = spread()
    told = cluster.roll()
    assert cluster.asked == [("node-b", "node-a-old r-0: carp-role-db")]
    assert asking(told) == ["node-a: asking node-b to stand aside for carp-role-db"]
    events = [(each.event, each.node) for each in told]
    assert (
        events.index(("ready", "node-c")) < events.index(("asking", "node-a")) < events.index(("replacing", "node-a"))
    )
    assert cluster.deleted == ["node-c", "node-a", "node-b"]


@pytest.mark.parametrize(
    ("unheard", "why"),
    [
        ([], "no answer"),
        ([ApiError("the right to patch pods/status is missing (403)", 403)] * 99, "the right to patch pods/status is"),
        (
            [ApiError("the API server answers 422: a webhook says no", 422)] * 99,
            "the API server answers 422: a webhook",
        ),
        ([ApiError("the API server answers 500: a webhook fails", 500)] * 99, "the API server answers 500: a webhook"),
        ([ApiError("the API server does not answer in time")] * 99, "the API server does not answer in time"),
        ([ApiError("gone", 404), ApiError("another", 409)], "no answer"),
    ],
)
def test_one_that_does_not_answer_or_may_not_be_asked_holds_up_nothing(unheard: list[Exception], why: str) -> None:
    cluster = spread()
    cluster.answers, cluster.unheard = False, unheard
    told = cluster.roll()
    assert told[-1].replaced == 3
    first, last = asking(told)
    assert first == "node-a: asking node-b to stand aside for carp-role-db"
    assert last.startswith(f"node-a: node-b may take over and pass it on once more: {why}")
    assert 55 <= cluster.now < 75, "ten seconds more than without"


def test_an_api_server_that_is_away_while_others_are_asked_is_waited_for() -> None:
    cluster = spread()
    cluster.unheard = [ApiError("the API server cannot be reached: refused")] * 3
    told = cluster.roll()
    assert told[-1].replaced == 3
    assert cluster.asked == [("node-b", "node-a-old r-0: carp-role-db")] * 4


@pytest.mark.parametrize("earlier", ["node-a-old q-0: carp-role-db", "node-a-old: carp-role-db"])
def test_an_answer_to_an_earlier_rollout_is_none_since_it_may_be_about_to_end(earlier: str) -> None:
    cluster = spread()
    cluster.edit("node-b", asked=earlier, answered=earlier)
    told = cluster.roll()
    assert cluster.asked == [("node-b", "node-a-old r-0: carp-role-db")]
    assert len(asking(told)) == 1


@pytest.mark.parametrize("lasts", [70.0, 130.0])
def test_an_answer_of_before_a_long_wait_is_asked_for_anew(lasts: float) -> None:
    cluster = spread()
    asked_at: list[float] = []

    def blip() -> None:
        """The new pod is not ready for a while, once the other one has been asked."""
        if cluster.asked and not asked_at:
            asked_at.append(cluster.now)
            cluster.ready_at["node-c-new"] = cluster.now + lasts
        if asked_at and cluster.now > asked_at[0] + 120.0 and len(cluster.asked) == 1:
            cluster.edit("node-b", asked="", answered="")

    cluster.before_look = blip
    told = cluster.roll(patience=300.0)
    (_, first), (_, second) = cluster.asked
    assert (first, second) == ("node-a-old r-0: carp-role-db", f"node-a-old r-{1 if lasts < 100 else 2}: carp-role-db")
    assert asking(told) == ["node-a: asking node-b to stand aside for carp-role-db"], "nor is anybody taken for deaf"


def test_a_blip_while_others_are_asked_ends_nothing() -> None:
    cluster = spread()
    cluster.starting = 45.0

    def blip() -> None:
        if len(cluster.asked) == 1:
            cluster.asked.append(("blip", ""))
            cluster.ready_at["node-c-new"] = cluster.now + 8.0

    cluster.before_look = blip
    assert cluster.roll(patience=60.0)[-1].replaced == 3


def test_asking_ends_even_if_it_is_another_one_each_time_who_is_asked_for() -> None:
    cluster = spread()
    cluster.answers = False

    def flap() -> None:
        assert cluster.now < 500.0
        if cluster.deleted == ["node-c"]:
            everywhere = {label: dict(roles) for label, roles in cluster.fleet.roles.items()}
            for roles in everywhere.values():
                roles["node-a"], roles["node-b"] = roles["node-b"], roles["node-a"]
            cluster.fleet = dataclasses.replace(cluster.fleet, roles=everywhere)

    cluster.before_look = flap
    assert cluster.roll()[-1].replaced == 3
    assert len(cluster.asked) <= 12
