"""The mirror: one patch per role change, none in between, whatever the API server and others do."""

from __future__ import annotations

import asyncio
import logging

import msgspec
import pytest

from sidecar.agent.errors import ApiError
from sidecar.agent.reconciler import BUSY, GRACE
from sidecar.agent.state import ApiState
from sidecar.ipc.messages import MirroredGroup, Snapshot
from sidecar.ipc.plan import MirrorPlan
from tests.fakes.mirror import GROUP, Agent, agent, group_role, mirrored, running, snapshot
from tests.fakes.pods import FakePods
from tests.fakes.time import run, until

DOWN = ApiError("the API server cannot be reached: refused")


@pytest.fixture
def pods() -> FakePods:
    fake = FakePods()
    for name in ("a", "b", "c"):
        fake.add(name)
    return fake


# Its own pod ---------------------------------------------------------------------------------------------------------


def test_a_role_change_is_one_patch_and_no_change_is_none(pods: FakePods) -> None:
    run(mirrored(pods, "a", snapshot("backup")))
    assert len(pods.writes) == 1
    assert pods.pods["a"].labels["carp-role"] == "backup"
    run(mirrored(pods, "a", snapshot("backup")))
    assert len(pods.writes) == 1


def test_for_an_hour_without_change_nothing_is_written_and_nothing_but_the_watch_is_renewed(pods: FakePods) -> None:
    async def story() -> None:
        mirror = agent(pods)
        async with running(mirror):
            mirror.reconciler.offer(snapshot("master"))
            await until(lambda: pods.writes, "written")
            await asyncio.sleep(3600)
        assert len(pods.writes) == 1
        assert pods.calls["list"] < 20  # two watches of about 450 s each

    run(story())


@pytest.mark.parametrize("label", ["backup", None, "x"], ids=["another role", "taken away", "nonsense"])
def test_what_somebody_else_does_to_our_label_is_put_back(
    pods: FakePods, label: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        mirror = agent(pods)
        async with running(mirror):
            mirror.reconciler.offer(snapshot("master"))
            await until(lambda: pods.masters() == ["a"], "written")
            await asyncio.sleep(1)
            pods.edit("a", {"carp-role": label, "mine": "kept"})
            assert await until(lambda: pods.masters() == ["a"], "put back", within=2) < 1
            await asyncio.sleep(100)
        assert pods.pods["a"].labels == {"carp-role": "master", "mine": "kept"}
        assert len(pods.writes) == 2

    run(story())
    assert caplog.text.count("somebody else changed what a pod of this node says") == 1


def test_who_edits_for_ever_does_not_set_the_pace(pods: FakePods) -> None:
    async def fights() -> None:
        while True:
            if pods.masters():
                pods.edit("a", {"carp-role": None})
            await asyncio.sleep(0.02)

    async def story() -> None:
        mirror = agent(pods)
        async with running(mirror):
            mirror.reconciler.offer(snapshot("master"))
            other = asyncio.create_task(fights())
            await asyncio.sleep(60)  # virtual, and 3000 turns of that loop
            assert len(pods.writes) < 100
            mirror.reconciler.offer(snapshot("backup", transitions=2))
            assert await until(lambda: mirror.says().get("carp-role") == "backup", "a new role", within=2) < 2
            other.cancel()

    run(story())


def test_a_pod_of_the_same_name_and_another_uid_starts_fresh(pods: FakePods) -> None:
    async def story() -> None:
        mirror = agent(pods)
        async with running(mirror):
            mirror.reconciler.offer(snapshot("master"))
            await until(lambda: pods.masters() == ["a"], "written")
            pods.add("a", uid="another")
            await until(lambda: pods.masters() == ["a"], "the new pod says so, too", within=2)
        assert pods.pods["a"].annotations["carp-sidecar/epoch"] == "1"

    run(story())


def test_a_write_that_was_meant_for_the_pod_before_does_not_reach_the_new_one(pods: FakePods) -> None:
    async def story() -> None:
        mirror = agent(pods)
        mirror.client.delay = 0.2
        async with running(mirror):
            mirror.reconciler.offer(snapshot("backup"))
            await asyncio.sleep(0.3)  # the patch is on its way
            assert not pods.writes
            pods.add("a", uid="another")
            await until(lambda: pods.writes, "written to the new one", within=5)
        assert pods.pods["a"].uid == "another"
        assert len(pods.writes) == 1

    run(story())


def test_a_pod_that_is_not_there_is_told_once_and_written_once_it_is(caplog: pytest.LogCaptureFixture) -> None:
    pods = FakePods()

    async def story() -> None:
        mirror = agent(pods)
        async with running(mirror):
            mirror.reconciler.offer(snapshot("backup"))
            await asyncio.sleep(100)
            assert mirror.status.api is ApiState.REFUSED
            assert mirror.status.lag(asyncio.get_running_loop().time()) == 100
            pods.add("a")
            await until(lambda: pods.writes, "written", within=2)
            await asyncio.sleep(1)
            assert mirror.status.api is ApiState.OK
            assert mirror.status.lag(1000) == 0

    run(story())
    assert caplog.text.count("pod edge/a is not there (404); check POD_NAME and POD_NAMESPACE") == 1


def test_several_groups_are_one_patch(pods: FakePods) -> None:
    second = MirroredGroup(name="db", interface="eth0", vhid=43, vips=("10.0.0.201/32",))

    async def story() -> None:
        mirror = agent(pods, groups=(GROUP, second))
        mirror.reconciler.offer(Snapshot(groups=(group_role("master"), group_role("backup", name="db"))))
        mirror.reconciler.finish()
        await mirror.reconciler.run()

    run(story())
    assert len(pods.writes) == 1
    assert pods.pods["a"].labels == {"carp-role-default": "master", "carp-role-db": "backup"}


def test_only_the_newest_snapshot_is_written(pods: FakePods) -> None:
    async def story() -> None:
        mirror = agent(pods)
        mirror.reconciler.offer(snapshot("backup"))
        mirror.reconciler.offer(snapshot("master", transitions=2))
        mirror.reconciler.finish()
        await mirror.reconciler.run()

    run(story())
    assert [write.said.labels["carp-role"] for write in pods.writes] == ["master"]


def test_nothing_to_say_finishes_at_once(pods: FakePods) -> None:
    async def story() -> None:
        mirror = agent(pods)
        mirror.reconciler.finish()
        await mirror.reconciler.run()

    run(story())
    assert pods.writes == []


# Other pods of the same node -----------------------------------------------------------------------------------------


def test_a_selector_chooses_the_pods_of_the_same_node(pods: FakePods) -> None:
    group = MirroredGroup(
        name="web",
        interface="eth0",
        vhid=42,
        vips=("10.0.0.200/32",),
        mirror=MirrorPlan(target_selector="app=web"),
    )
    pods.add("web-1", {"app": "web"}, node="node-a")
    pods.add("web-2", {"app": "web"}, node="node-b")
    pods.add("db-1", {"app": "db"}, node="node-a")

    async def story() -> None:
        mirror = agent(pods, groups=(group,))
        async with running(mirror):
            mirror.reconciler.offer(Snapshot(groups=(group_role("master", name="web"),)))
            await until(lambda: pods.masters() == ["web-1"], "the pod of this node, not the sidecar's")
            pods.add("web-3", {"app": "web"}, node="node-a")
            await until(lambda: pods.masters() == ["web-1", "web-3"], "one that comes later", within=2)
            await asyncio.sleep(10)
        assert {write.pod for write in pods.writes} == {"web-1", "web-3"}
        assert len(pods.writes) == 2

    run(story())


def test_each_of_several_groups_has_pods_of_its_own(pods: FakePods) -> None:
    web = MirroredGroup(
        name="web", interface="e", vhid=1, vips=("10.0.0.1/32",), mirror=MirrorPlan(target_selector="app=web")
    )
    pods.add("web-1", {"app": "web"}, node="node-a")
    pods.add("web-2", {"app": "web"}, node="node-b")

    async def story() -> None:
        mirrors = [agent(pods, name, groups=(web, GROUP)) for name in "ab"]
        async with running(*mirrors):
            roles = (group_role("master", name="web"), group_role("backup"))
            mirrors[0].reconciler.offer(Snapshot(groups=roles))
            mirrors[1].reconciler.offer(Snapshot(groups=(group_role("backup", name="web"), group_role("master"))))
            await until(lambda: pods.masters("carp-role-web") == ["web-1"], "web")
            await until(lambda: pods.masters("carp-role-default") == ["b"], "default")
            await until(lambda: pods.pods["web-2"].labels["carp-role-web"] == "backup", "web's backup")

    run(story())


@pytest.mark.parametrize("status", [403, 422, 500, None])
def test_a_pod_that_cannot_be_written_holds_up_no_other_and_nothing_beyond_them(status: int | None) -> None:
    pods = FakePods()
    for name in ("app-1", "app-2", "app-3"):
        pods.add(name, {"app": "web"}, node="node-a")
    pods.troubles["app-2"] = [ApiError("a webhook says no", status)] * 1000
    group = msgspec.structs.replace(GROUP, mirror=MirrorPlan(target_selector="app=web"))

    async def story() -> None:
        mirror = agent(pods, groups=[group])
        async with running(mirror):
            mirror.reconciler.offer(snapshot("master"))
            await until(lambda: pods.masters() == ["app-1", "app-3"], "the others", within=1)
            await until(lambda: mirror.told and mirror.told[-1], "what follows from that", within=1)
            pods.troubles.clear()
            await until(lambda: pods.masters() == ["app-1", "app-2", "app-3"], "all", within=20)

    run(story())


def test_others_are_not_told_of_a_pod_that_has_ended_as_the_master() -> None:
    pods = FakePods()
    for name in ("app-1", "app-2"):
        pods.add(name, {"app": "web"}, node="node-a")
    pods.edit("app-1", {}, ended=True)
    group = msgspec.structs.replace(GROUP, mirror=MirrorPlan(target_selector="app=web"))

    async def story() -> None:
        mirror = agent(pods, groups=[group])
        async with running(mirror):
            mirror.reconciler.offer(snapshot("master"))
            await until(lambda: mirror.told and mirror.told[-1], "told")
            assert [each.holder for each in mirror.told[-1]] == ["app-2"]
            pods.edit("app-2", {}, ended=True)
            await asyncio.sleep(1)
            assert [each.holder for each in mirror.told[-1]] == ["app-1"]

    run(story())


def test_what_none_of_the_pods_takes_is_not_told_but_what_they_said_before_stands(pods: FakePods) -> None:
    async def story() -> None:
        mirror = agent(pods)
        async with running(mirror):
            pods.troubles["a"] = [ApiError("a webhook says no", 422)] * 5
            mirror.reconciler.offer(snapshot("master"))
            await until(lambda: not pods.troubles["a"], "refused")
            assert set(mirror.told) == {()}
            await until(lambda: mirror.told[-1], "told")
            before = mirror.told[-1]
            pods.troubles["a"] = [ApiError("a webhook says no", 422)] * 5
            pods.edit("a", {"carp-role": None})
            await until(lambda: not pods.troubles["a"], "refused")
            assert mirror.told[-1] == before
            await until(lambda: pods.masters() == ["a"], "put back")

    run(story())


# Those who were master before ----------------------------------------------------------------------------------------


def test_the_winner_relabels_the_dead_before_itself(pods: FakePods) -> None:
    run(mirrored(pods, "a", snapshot("master")))
    assert pods.pods["a"].annotations["carp-sidecar/epoch"] == "1"
    pods.writes.clear()
    run(mirrored(pods, "b", snapshot("master", reason="master-down")))
    assert [write.pod for write in pods.writes] == ["a", "b"]
    assert pods.masters() == ["b"]
    assert pods.pods["b"].annotations["carp-sidecar/epoch"] == "2"
    assert pods.pods["a"].annotations["carp-sidecar/reason"] == "superseded by b"
    assert frozenset("ab") not in pods.history


@pytest.mark.parametrize(
    "changes", [{"terminating": True}, {"ready": False}], ids=["stuck terminating", "kubelet gone"]
)
def test_the_dead_are_repaired_however_kubernetes_sees_them(pods: FakePods, changes: dict[str, bool]) -> None:
    run(mirrored(pods, "a", snapshot("master")))
    pods.edit("a", {}, **changes)
    run(mirrored(pods, "b", snapshot("master", reason="bow-out")))
    assert pods.masters() == ["b"]


def test_a_master_that_lives_is_given_a_moment_to_say_so_itself(pods: FakePods) -> None:
    async def story(answers: bool) -> None:
        old, new = agent(pods, "a"), agent(pods, "b")
        async with running(old, new):
            old.reconciler.offer(snapshot("master"))
            await until(lambda: pods.masters() == ["a"], "the first")
            pods.writes.clear()
            old.client.cut = not answers
            new.reconciler.offer(snapshot("master", transitions=2, reason="preempt"))
            if answers:
                await asyncio.sleep(GRACE / 2)
                old.reconciler.offer(snapshot("backup", transitions=2, reason="better-master"))
            took = await until(lambda: pods.masters() == ["b"], "the second", within=2)
            await asyncio.sleep(10)
        assert [write.by for write in pods.writes] == (["a", "b"] if answers else ["b", "b"])
        assert took < GRACE if answers else took >= GRACE
        assert frozenset("ab") not in pods.history

    run(story(answers=True))
    for name in "ab":
        pods.add(name)
    run(story(answers=False))


def test_an_agent_that_starts_anew_keeps_the_epoch(pods: FakePods) -> None:
    run(mirrored(pods, "a", snapshot("master")))
    pods.writes.clear()
    run(mirrored(pods, "a", snapshot("master")))
    assert pods.writes == []


def test_one_that_was_falsely_accused_says_the_truth_again_once_the_other_yields(pods: FakePods) -> None:
    async def story() -> None:
        a, b = agent(pods, "a"), agent(pods, "b")
        async with running(a, b):
            a.reconciler.offer(snapshot("master"))
            await until(lambda: pods.masters() == ["a"], "the first")
            a.client.cut = True  # and b does not hear a: it takes it for dead
            b.reconciler.offer(snapshot("master", reason="master-down"))
            await until(lambda: pods.masters() == ["b"], "b")
            b.reconciler.offer(snapshot("backup", transitions=2, reason="better-master"))
            await until(lambda: not pods.masters(), "b yields")
            a.client.cut = False
            pods.writes.clear()
            pods.end_watches()
            assert await until(lambda: pods.masters() == ["a"], "a was master all the time", within=2) <= 2
            await asyncio.sleep(600)
        assert [write.by for write in pods.writes] == ["a"]

    run(story())


def test_two_that_are_master_for_good_contradict_each_other_once_and_leave_it_at_that(pods: FakePods) -> None:
    async def story() -> None:
        a, b = agent(pods, "a"), agent(pods, "b")
        async with running(a, b):
            a.reconciler.offer(snapshot("master"))
            await until(lambda: pods.masters() == ["a"], "the first")
            b.reconciler.offer(snapshot("master", reason="master-down"))
            await asyncio.sleep(600)
            assert len(pods.writes) < 10
            assert len(pods.masters()) == 1
            told = len(pods.writes)
            (master,) = pods.masters()
            other = {"a": b, "b": a}[master]
            pods.edit(master, {}, ready=False)  # the node of the one that is believed dies
            assert await until(lambda: pods.masters() == [other.name], "the other one", within=2) <= 2
            assert len(pods.writes) < told + 5

    run(story())


def test_of_two_equal_claims_one_stays(pods: FakePods) -> None:
    async def story() -> None:
        a, b = agent(pods, "a"), agent(pods, "b")
        async with running(a, b):
            a.reconciler.offer(snapshot("master", reason="master-down"))
            b.reconciler.offer(snapshot("master", reason="master-down"))
            await asyncio.sleep(100)
        assert len(pods.masters()) == 1
        assert len(pods.writes) <= 12

    run(story())


def test_a_write_of_a_dead_master_that_arrives_late_is_repaired(pods: FakePods) -> None:
    async def story() -> None:
        a = agent(pods, "a")
        async with running(a):
            a.reconciler.offer(snapshot("master"))
            await until(lambda: pods.masters() == ["a"], "a")
            said = pods.pods["a"].annotations
            pods.add("b", {"carp-role": "master"}, {**said, "carp-sidecar/epoch": "7", "carp-sidecar/since": "x"})
            await until(lambda: pods.masters() == ["a"], "a is master", within=2)
        assert pods.pods["a"].annotations["carp-sidecar/epoch"] == "8"

    run(story())


@pytest.mark.parametrize("condition", [False, True], ids=["label", "condition"])
def test_a_claim_that_is_made_again_after_the_winner_relabelled_it_is_refused(pods: FakePods, condition: bool) -> None:
    """What the old master hears is cut, and what it says is not: it does not know that its claim has arrived."""

    async def story() -> None:
        a, b = (agent(pods, name, condition=condition) for name in "ab")
        async with running(a, b):
            a.reconciler.offer(snapshot("backup"))
            await until(a.says, "a's first")
            await asyncio.sleep(1)
            a.client.delay = 0.1
            a.reconciler.offer(snapshot("master", transitions=2))
            await until(lambda: pods.calls["list"] == 3, "it has read the others, and its claim is on its way")
            a.client.deaf = True
            pods.end_watches()
            await until(lambda: pods.masters() == ["a"], "it has arrived")
            b.reconciler.offer(snapshot("master", transitions=2, reason="master-down"))
            await until(lambda: pods.masters() == ["b"], "b")
            tried = pods.calls["patch"]
            await until(lambda: pods.calls["patch"] >= tried + 3, "a tries again, since for all it knows it is master")
            a.reconciler.offer(snapshot("backup", transitions=3, reason="woke-late"))
            a.client.deaf = False
            await until(lambda: pods.pods["a"].annotations["carp-sidecar/reason"] == "woke-late", "it hears", within=3)
        assert pods.masters() == ["b"]
        assert frozenset("ab") not in pods.history
        if condition:
            assert [pods.pods[name].conditions["carp-sidecar/master"] for name in "ab"] == ["False", "True"]

    run(story())


def test_who_is_deposed_while_it_relabels_the_dead_does_not_say_master(pods: FakePods) -> None:
    run(mirrored(pods, "a", snapshot("master")))

    async def story() -> None:
        b = agent(pods, "b")
        async with running(b):
            b.reconciler.offer(snapshot("backup"))
            await until(b.says, "b's first")
            b.client.delay = 0.2
            b.reconciler.offer(snapshot("master", transitions=2, reason="master-down"))
            await asyncio.sleep(0.3)  # a's label is on its way
            b.reconciler.offer(snapshot("backup", transitions=3, reason="better-master"))
            await until(lambda: pods.pods["b"].annotations["carp-sidecar/transitions"] == "3", "b's newest", within=3)
        assert not pods.masters()
        assert not any("b" in masters for masters in pods.history)

    run(story())


def test_who_claims_while_another_is_relabelled_is_judged_first(pods: FakePods) -> None:
    run(mirrored(pods, "a", snapshot("master")))
    claim = dict(pods.pods["a"].annotations)
    pods.add("d", {"carp-role": "master"}, claim)

    async def story() -> None:
        b = agent(pods, "b")
        b.client.delay = 0.2
        async with running(b):
            b.reconciler.offer(snapshot("master", reason="master-down"))
            await until(lambda: pods.masters() == ["d"], "a is relabelled")
            await asyncio.sleep(0.1)  # d's label is on its way
            assert pods.masters() == ["d"]
            pods.edit("c", {"carp-role": "master"}, annotations=claim)
            await until(lambda: pods.masters() == ["b"], "b", within=3)
        assert not [masters for masters in pods.history if "b" in masters and len(masters) > 1]

    run(story())


def test_a_claim_that_is_refused_is_made_anew_from_what_is_read_then(pods: FakePods) -> None:
    """The kubelet writes to the pod as well, and a watch may have fallen silent."""

    async def story() -> None:
        a = agent(pods)
        async with running(a):
            a.reconciler.offer(snapshot("backup"))
            await until(lambda: pods.writes, "written")
            a.client.silent = True
            pods.edit("a", {}, ready=False)
            a.reconciler.offer(snapshot("master", transitions=2))
            assert await until(lambda: pods.masters() == ["a"], "a", within=2) < 0.5
            await asyncio.sleep(1)
            assert a.status.api is ApiState.OK

    run(story())


def test_a_conflict_on_the_dead_pod_is_read_again(pods: FakePods) -> None:
    run(mirrored(pods, "a", snapshot("master")))

    async def story() -> None:
        b = agent(pods, "b")
        b.client.delay = 0.1
        async with running(b):
            b.reconciler.offer(snapshot("master", reason="master-down"))
            await asyncio.sleep(0.25)  # it has read, and is about to write
            pods.edit("a", {"x": "y"})
            await until(lambda: pods.masters() == ["b"], "b")
        assert pods.pods["a"].labels == {"carp-role": "backup", "x": "y"}
        assert frozenset("ab") not in pods.history

    run(story())


def test_where_the_dead_cannot_be_relabelled_the_living_is_all_the_same(pods: FakePods) -> None:
    run(mirrored(pods, "a", snapshot("master")))

    pods.troubles["a"] = [ApiError("the API server answers 422: a webhook says no", 422)] * 1000

    async def story() -> None:
        b = agent(pods, "b")
        async with running(b):
            b.reconciler.offer(snapshot("master", reason="master-down"))
            await until(lambda: "b" in pods.masters(), "b")
            assert b.status.api is ApiState.FAILING

    run(story())


@pytest.mark.parametrize("status", [429, 500, 503])
def test_one_that_is_not_relabelled_at_once_is_a_moment_later_and_never_are_there_two(
    pods: FakePods, status: int
) -> None:
    """The write that fails stands between two that work."""
    run(mirrored(pods, "a", snapshot("master")))
    said = pods.pods["a"].annotations
    for name in "cd":
        pods.add(name, {"carp-role": "master"}, said)
    pods.troubles["c"] = [ApiError("the API server is busy", status)]

    async def story() -> None:
        b = agent(pods, "b")
        async with running(b):
            pods.history.clear()
            b.reconciler.offer(snapshot("master", reason="master-down"))
            assert await until(lambda: pods.masters() == ["b"], "b", within=2) < BUSY
            assert not [masters for masters in pods.history if "b" in masters and len(masters) > 1]
            assert [write.pod for write in pods.writes[-4:]] == ["a", "d", "c", "b"]

    run(story())


@pytest.mark.parametrize(("fault", "within"), [({}, BUSY + 1.5), ({"retry_after": 30.0}, 0.5)])
def test_one_that_is_never_relabelled_holds_the_living_back_for_a_moment_only(
    pods: FakePods, fault: dict[str, float], within: float
) -> None:
    run(mirrored(pods, "a", snapshot("master")))
    pods.troubles["a"] = [ApiError("the API server is busy", 503, **fault)] * 1000

    async def story() -> None:
        b = agent(pods, "b")
        async with running(b):
            b.reconciler.offer(snapshot("master", reason="master-down"))
            await until(lambda: "b" in pods.masters(), "b", within=within)
            pods.troubles.clear()
            await until(lambda: pods.masters() == ["b"], "b alone", within=32)
            await asyncio.sleep(60)
            pods.troubles["a"] = [ApiError("the API server is busy", 503)]
            pods.edit("b", {"carp-role": "backup"})
            pods.history.clear()
            pods.edit("a", {"carp-role": "master"})  # a late write
            await until(lambda: pods.masters() == ["b"], "b alone", within=5)
            assert frozenset("ab") not in pods.history, "it is waited for as before"

    run(story())


def test_a_pod_that_is_gone_needs_no_repair(pods: FakePods) -> None:
    run(mirrored(pods, "a", snapshot("master")))

    async def story() -> None:
        b = agent(pods, "b")
        b.client.delay = 0.1
        async with running(b):
            b.reconciler.offer(snapshot("master", reason="master-down"))
            await asyncio.sleep(0.25)
            pods.remove("a")
            assert await until(lambda: pods.masters() == ["b"], "b", within=2) < 1

    run(story())


# The condition -------------------------------------------------------------------------------------------------------


def test_the_condition_goes_with_the_label_in_the_same_patch_and_the_winner_repairs_it(pods: FakePods) -> None:
    async def story() -> None:
        a, b = (agent(pods, name, condition=True) for name in "ab")
        async with running(a):
            a.reconciler.offer(snapshot("master"))
            await until(lambda: pods.masters() == ["a"], "a")
        assert pods.pods["a"].conditions == {"carp-sidecar/master": "True"}
        async with running(b):
            b.reconciler.offer(snapshot("backup"))
            await until(lambda: pods.pods["b"].conditions == {"carp-sidecar/master": "False"}, "b's")
            b.reconciler.offer(snapshot("master", transitions=2, reason="master-down"))
            await until(lambda: pods.pods["b"].conditions == {"carp-sidecar/master": "True"}, "b's")
        assert pods.pods["a"].conditions == {"carp-sidecar/master": "False"}
        assert pods.pods["a"].labels == {"carp-role": "backup"}
        assert len(pods.writes) == 4

    run(story())


def test_without_the_right_to_the_condition_the_labels_are_written(
    pods: FakePods, caplog: pytest.LogCaptureFixture
) -> None:
    pods.forbidden = frozenset({"patch pods/status"})

    async def story() -> None:
        mirror = agent(pods, condition=True)
        async with running(mirror):
            mirror.reconciler.offer(snapshot("master"))
            await until(lambda: pods.masters() == ["a"], "the label")
            await asyncio.sleep(600)
            assert mirror.status.missing_rights == {"patch pods/status"}
            assert pods.calls["patch"] < 700
            pods.forbidden = frozenset()
            await until(lambda: pods.pods["a"].conditions == {"carp-sidecar/master": "True"}, "the condition")
            await asyncio.sleep(1)
            assert mirror.status.missing_rights == set()

    run(story())
    assert caplog.text.count("the right to patch pods/status is missing") == 1


# An API server in trouble --------------------------------------------------------------------------------------------


def test_failures_are_retried_until_written_and_told_once(pods: FakePods, caplog: pytest.LogCaptureFixture) -> None:
    pods.failures += [DOWN] * 6
    with caplog.at_level(logging.INFO):
        run(mirrored(pods, "a", snapshot("master")))
    assert pods.masters() == ["a"]
    said = [record.getMessage() for record in caplog.records]
    assert sum("cannot be reached" in line for line in said) == 1
    assert said[-1] == "Kubernetes is told of everything again"


def test_an_hour_without_an_api_server_and_two_seconds_after_it(
    pods: FakePods, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        mirror = agent(pods)
        async with running(mirror):
            mirror.reconciler.offer(snapshot("backup"))
            await until(lambda: pods.writes, "written")
            pods.down = DOWN
            pods.end_watches()
            for number in range(2, 1000):  # and the network flaps meanwhile
                mirror.reconciler.offer(snapshot("master" if number % 2 else "backup", transitions=number))
                await asyncio.sleep(3.6)
            assert mirror.status.api is ApiState.UNREACHABLE
            assert mirror.status.lag(asyncio.get_running_loop().time()) > 3500
            assert pods.calls["list"] + pods.calls["watch"] + pods.calls["patch"] < 3 * 3600 * 2
            assert len(asyncio.all_tasks()) < 10
            pods.down = None
            took = await until(lambda: pods.masters() == ["a"], "the newest role", within=2)
            assert took <= 2
            assert len(pods.writes) == 2

    run(story())
    assert caplog.text.count("cannot be reached") == 1


@pytest.mark.parametrize(("right", "status"), [("patch pods", 403), ("list pods", 403), ("watch pods", 403)], ids=str)
def test_a_right_that_is_missing_is_told_once_and_asked_for_seldom(
    pods: FakePods, caplog: pytest.LogCaptureFixture, right: str, status: int
) -> None:
    pods.forbidden = frozenset({right})

    async def story() -> None:
        mirror = agent(pods)
        async with running(mirror):
            mirror.reconciler.offer(snapshot("master"))
            await asyncio.sleep(3600)
            assert mirror.status.missing_rights == {right}
            assert mirror.status.api is ApiState.REFUSED
            assert sum(pods.calls.values()) < 2000
            pods.forbidden = frozenset()
            await until(lambda: pods.masters() == ["a"], "written", within=30)
            await until(lambda: mirror.status.api is ApiState.OK, "all is well", within=30)

    run(story())
    assert status == 403
    assert caplog.text.count(f"the right to {right} is missing") == 1


def test_who_asked_for_it_hears_when_the_newest_roles_are_written(pods: FakePods) -> None:
    told: list[str] = []

    async def story() -> None:
        mirror = agent(pods)
        async with running(mirror):
            mirror.reconciler.offer(snapshot("master"), lambda: told.append("too old"))
            mirror.reconciler.offer(snapshot("backup"), lambda: told.append(mirror.says()["carp-role"]))
            await until(lambda: told, "told", within=2)
            mirror.reconciler.offer(snapshot("backup"), lambda: told.append("nothing to write"))
            await until(lambda: len(told) > 1, "told", within=2)

    run(story())
    assert told == ["backup", "nothing to write"]


@pytest.mark.parametrize("hours", [(9, -9), (-9, 9), (0, -9), (-9, 0), (0, 9)], ids=str)
def test_who_may_say_master_does_not_depend_on_what_the_nodes_clocks_say(
    pods: FakePods, hours: tuple[float, float]
) -> None:
    """One after the other they take over, by clocks that are hours apart."""

    async def story() -> None:
        now = 1_000_000.0
        a, b = agent(pods, "a"), agent(pods, "b")
        async with running(a, b):
            for turn in range(1, 7):
                (winner, off), (loser, other) = ((a, hours[0]), (b, hours[1]))[:: 1 if turn % 2 else -1]
                loser.reconciler.offer(
                    snapshot("backup", transitions=turn, reason="better-master", since=now + turn + 3600 * other)
                )
                winner.reconciler.offer(
                    snapshot("master", transitions=turn, reason="master-down", since=now + turn + 3600 * off)
                )
                await until(lambda: pods.masters() == [winner.name], "the winner")  # noqa: B023 - at once
                assert pods.pods[winner.name].annotations["carp-sidecar/epoch"] == str(turn)
                await asyncio.sleep(5)
                assert pods.masters() == [winner.name]
        assert all(len(masters) < 2 for masters in pods.history)

    run(story())


def test_a_retry_after_is_waited_for(pods: FakePods) -> None:
    async def story() -> None:
        mirror = agent(pods)
        pods.failures = [ApiError("slow down (429)", 429, retry_after=5.0)]
        async with running(mirror):
            mirror.reconciler.offer(snapshot("backup"))
            assert 5 <= await until(lambda: pods.writes, "written", within=10) < 6

    run(story())


def test_a_watch_that_is_too_old_begins_with_a_new_list(pods: FakePods) -> None:
    async def story() -> None:
        mirror = agent(pods)
        async with running(mirror):
            mirror.reconciler.offer(snapshot("backup"))
            await until(lambda: pods.writes, "written")
            pods.down = DOWN
            pods.end_watches()
            await asyncio.sleep(5)
            pods.edit("a", {"carp-role": None})
            pods.expire()
            pods.down = None
            await until(lambda: mirror.says().get("carp-role") == "backup", "put back", within=2)

    run(story())


def test_a_watch_that_ends_at_once_each_time_is_no_busy_loop(pods: FakePods) -> None:
    async def story() -> None:
        mirror = agent(pods)

        async def nothing(*_: object, seconds: int) -> object:
            pods.calls["watch"] += 1
            return
            yield seconds

        mirror.client.watch = nothing  # type: ignore[method-assign,assignment]
        async with running(mirror):
            mirror.reconciler.offer(snapshot("backup"))
            await asyncio.sleep(100)
        assert pods.calls["watch"] < 200

    run(story())


def test_what_lies_beyond_the_pods_is_told_once_they_say_so(pods: FakePods) -> None:
    async def story() -> None:
        mirror = agent(pods)
        async with running(mirror):
            mirror.reconciler.offer(snapshot("master"))
            mirror.reconciler.note_epoch("default", 41)
            await until(lambda: mirror.told and mirror.told[-1], "told")
            assert pods.masters() == ["a"]
            ((mastered,),) = [mirror.told[-1]]
            assert mastered.epoch == 42
            mirror.reconciler.offer(snapshot("backup", transitions=2))
            await until(lambda: mirror.told[-1] == (), "none")

    run(story())


def test_three_masters_that_relabel_each_other_in_step_leave_it_at_that(pods: FakePods) -> None:
    """Each refuses the others' claims by relabelling their pods: a contradiction counts before ours is written."""
    for name in "bc":
        pods.add(name)

    async def story() -> None:
        agents = [agent(pods, name) for name in "abc"]
        async with running(*agents):
            for each in agents:
                each.reconciler.offer(snapshot("master", reason="master-down", since=1.0))
            await asyncio.sleep(30)
            (said,) = pods.masters()
            written = len(pods.writes)
            await asyncio.sleep(300)
            assert (pods.masters(), len(pods.writes)) == ([said], written)

    run(story())


# Standing aside ------------------------------------------------------------------------------------------------------


WORD = {"carp-sidecar/stand-aside": "b-1: carp-role"}


def groups_of(mirror: Agent) -> list[tuple[str, ...]]:
    return [each.groups for each in mirror.aside]


def asked(pods: FakePods, name: str, words: dict[str, str]) -> None:
    pods.edit(name, annotations={**pods.pods[name].annotations, **words})


def test_a_backup_that_is_asked_stands_aside_says_so_and_forgets_it_after_a_while(
    pods: FakePods, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        mirror = agent(pods)
        async with running(mirror):
            mirror.reconciler.offer(snapshot("backup"))
            await until(lambda: pods.writes, "written")
            assert groups_of(mirror) == [()]
            asked(pods, "a", WORD)
            await until(lambda: "carp-sidecar/stands-aside" in pods.pods["a"].annotations, "answered", within=1)
            assert pods.pods["a"].annotations["carp-sidecar/stands-aside"] == "b-1: carp-role"
            assert groups_of(mirror) == [(), ("default",)]
            await asyncio.sleep(110)
            assert groups_of(mirror)[2:] == []
            await asyncio.sleep(20)
            assert groups_of(mirror)[2:] == [(), ()]
            assert not {key for key in pods.pods["a"].annotations if "aside" in key}
            written = len(pods.writes)
            await asyncio.sleep(600)
            assert len(pods.writes) == written

    run(story())
    assert "somebody else" not in caplog.text


def test_a_role_elsewhere_leaves_the_own_pod_the_one_that_is_asked(pods: FakePods) -> None:
    pods.add("web", {"app": "web"}, node="node-a")
    group = msgspec.structs.replace(GROUP, mirror=MirrorPlan(target_selector="app=web"))

    async def story() -> None:
        mirror = agent(pods, groups=(group,))
        async with running(mirror):
            mirror.reconciler.offer(snapshot("backup"))
            asked(pods, "a", WORD)
            await until(lambda: "carp-sidecar/stands-aside" in pods.pods["a"].annotations, "answered", within=1)
            assert mirror.aside[-1].groups == ("default",)
            assert "carp-role" not in pods.pods["a"].labels

    run(story())


def test_an_answer_that_is_refused_holds_up_no_role_no_drain_and_no_end(pods: FakePods) -> None:
    pods.unwritable = "carp-sidecar/stands-aside"
    written: list[str] = []

    async def story() -> None:
        mirror = agent(pods)
        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            tasks.create_task(mirror.reconciler.run())
            mirror.reconciler.offer(snapshot("backup"))
            await until(lambda: pods.writes, "written")
            asked(pods, "a", WORD)
            await until(lambda: mirror.status.last_error, "refused", within=1)
            assert mirror.aside[-1].groups == ("default",), "obeyed all the same"
            await asyncio.sleep(30)
            mirror.reconciler.offer(snapshot("master", transitions=2), lambda: written.append("master"))
            await until(lambda: written, "told at once", within=0.05)
            assert pods.masters() == ["a"]
            mirror.reconciler.offer(snapshot("backup", transitions=3), lambda: written.append("backup"))
            mirror.reconciler.finish()
            await until(lambda: written[1:], "told at once", within=0.05)
        assert pods.masters() == []

    run(story())


def test_an_agent_that_begins_anew_takes_the_traces_of_the_one_before_away(pods: FakePods) -> None:
    asked(pods, "a", {**WORD, "carp-sidecar/stands-aside": WORD["carp-sidecar/stand-aside"]})

    async def story() -> None:
        mirror = agent(pods)
        async with running(mirror):
            await until(lambda: not any("aside" in key for key in pods.pods["a"].annotations), "gone", within=1)
            assert {each.groups for each in mirror.aside} == {()}

    run(story())


def test_what_was_refused_is_answered_later_and_taken_off_in_the_end(pods: FakePods) -> None:
    pods.unwritable = "carp-sidecar/stands-aside"

    async def story() -> None:
        mirror = agent(pods)
        async with running(mirror):
            asked(pods, "a", WORD)
            await until(lambda: mirror.status.last_error, "refused before any role is known", within=1)
            pods.unwritable = ""
            await until(lambda: "carp-sidecar/stands-aside" in pods.pods["a"].annotations, "answered", within=2)
            assert mirror.status.api is ApiState.OK
            pods.unwritable = "carp-sidecar/stands-aside"
            await asyncio.sleep(125)
            assert mirror.aside[-1].groups == (), "over, though the traces can't be removed"
            pods.unwritable = ""
            await until(lambda: not any("aside" in key for key in pods.pods["a"].annotations), "gone", within=2)

    run(story())
