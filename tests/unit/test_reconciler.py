"""The mirror: one patch per role change, none in between, whatever the API server does."""

from __future__ import annotations

import asyncio
import itertools
import logging

import pytest

from sidecar.agent import reconciler as module
from sidecar.agent.api import ApiError
from sidecar.agent.reconciler import Reconciler
from sidecar.ipc.messages import GroupRole, MirroredGroup, Snapshot
from tests.fakes.pods import FakePods

GROUP = MirroredGroup(name="default", interface="eth0", vhid=42, vips=("10.0.0.200/32",))
DOWN = ApiError("the API server cannot be reached: refused")


def snapshot(role: str, *, transitions: int = 1) -> Snapshot:
    return Snapshot(
        groups=(
            GroupRole(name="default", role=role, since=float(transitions), reason="start", transitions=transitions),
        )
    )


def reconciler(pods: FakePods, *, own: str = "a", groups: tuple[MirroredGroup, ...] = (GROUP,)) -> Reconciler:
    async def connect() -> FakePods:
        return pods

    # No jitter and the shortest waits: the order of things is tested, not the time.
    return Reconciler(connect=connect, pod_name=own, role_label="carp-role", groups=groups, jitter=lambda: -1.0)


async def mirrored(pods: FakePods, *snapshots: Snapshot, own: str = "a") -> None:
    """Let a reconciler write each snapshot before it gets the next."""
    for each in snapshots:
        mirror = reconciler(pods, own=own)
        mirror.offer(each)
        mirror.finish()
        await mirror.run()


@pytest.fixture
def pods() -> FakePods:
    fake = FakePods(own_name="a")
    for name in ("a", "b", "c"):
        fake.add(name)
    return fake


def test_a_role_change_is_one_patch_and_no_change_is_none(pods: FakePods) -> None:
    asyncio.run(mirrored(pods, snapshot("backup")))
    assert len(pods.writes) == 1
    assert pods.pods["a"].labels["carp-role"] == "backup"
    asyncio.run(mirrored(pods, snapshot("backup")))
    assert len(pods.writes) == 1


def test_it_waits_for_the_next_snapshot_without_asking(pods: FakePods) -> None:
    async def story() -> int:
        mirror = reconciler(pods)
        mirror.offer(snapshot("backup"))
        task = asyncio.create_task(mirror.run())
        while not pods.writes:
            await asyncio.sleep(0)
        settled = pods.calls
        for _ in range(1000):
            await asyncio.sleep(0)
        assert pods.calls == settled
        mirror.finish()
        await task
        return settled

    assert asyncio.run(story()) > 0


def test_the_winner_relabels_the_dead_before_itself(pods: FakePods) -> None:
    asyncio.run(mirrored(pods, snapshot("master")))
    assert pods.pods["a"].annotations["carp-sidecar/epoch"] == "1"
    pods.own_name = "b"
    pods.writes.clear()
    asyncio.run(mirrored(pods, snapshot("master"), own="b"))
    assert [name for name, _ in pods.writes] == ["a", "b"]
    assert pods.masters() == ["b"]
    assert pods.pods["b"].annotations["carp-sidecar/epoch"] == "2"
    assert pods.pods["a"].annotations["carp-sidecar/reason"] == "superseded by b"


def test_an_agent_that_starts_anew_keeps_the_epoch(pods: FakePods) -> None:
    asyncio.run(mirrored(pods, snapshot("master")))
    pods.writes.clear()
    asyncio.run(mirrored(pods, snapshot("master")))
    assert pods.writes == []


def test_a_newer_master_is_left_alone(pods: FakePods) -> None:
    asyncio.run(mirrored(pods, snapshot("master")))
    pods.add("b", {"carp-role": "master"}, {**pods.pods["a"].annotations, "carp-sidecar/epoch": "5"})
    asyncio.run(mirrored(pods, snapshot("master")))
    assert pods.masters() == ["a", "b"]  # CARP decides which of them goes; its own agent says so


def test_failures_are_retried_until_written_and_told_once(pods: FakePods, caplog: pytest.LogCaptureFixture) -> None:
    pods.failures += [DOWN] * 6
    with caplog.at_level(logging.INFO):
        asyncio.run(mirrored(pods, snapshot("master")))
    assert pods.masters() == ["a"]
    said = [record.getMessage() for record in caplog.records]
    assert sum("cannot be reached" in line for line in said) == 1
    assert said[-1] == "the labels are up to date again"


def test_a_conflict_on_the_dead_pod_is_read_again(pods: FakePods) -> None:
    asyncio.run(mirrored(pods, snapshot("master")))
    pods.own_name = "b"
    conflict = ApiError("modified", 409)
    # own, list, then the patch of the dead pod conflicts; our own label is written all the same
    pods.failures = []
    real_patch = pods.patch
    conflicts = itertools.chain([conflict], itertools.repeat(None))

    async def patch(name: str, metadata: object, **kwargs: object) -> None:
        failure = next(conflicts)
        if failure is not None:
            raise failure
        await real_patch(name, metadata, **kwargs)  # type: ignore[arg-type]

    pods.patch = patch  # type: ignore[method-assign,assignment]
    asyncio.run(mirrored(pods, snapshot("master"), own="b"))
    assert pods.masters() == ["b"]


def test_without_the_right_to_list_the_own_label_is_written(pods: FakePods, caplog: pytest.LogCaptureFixture) -> None:
    pods.forbidden = frozenset({"list"})
    asyncio.run(mirrored(pods, snapshot("master")))
    assert pods.masters() == ["a"]
    assert "the right to list pods is missing" in caplog.text


def test_only_the_newest_snapshot_is_written(pods: FakePods) -> None:
    async def story() -> None:
        mirror = reconciler(pods)
        mirror.offer(snapshot("backup"))
        mirror.offer(snapshot("master", transitions=2))
        mirror.finish()
        await mirror.run()

    asyncio.run(story())
    assert [metadata.labels["carp-role"] for _, metadata in pods.writes] == ["master"]


def test_nothing_to_say_finishes_at_once(pods: FakePods) -> None:
    async def story() -> None:
        mirror = reconciler(pods)
        mirror.finish()
        await mirror.run()

    asyncio.run(story())
    assert pods.calls == 0


def test_several_groups_are_one_patch(pods: FakePods) -> None:
    second = MirroredGroup(name="db", interface="eth0", vhid=43, vips=("10.0.0.201/32",))

    async def story() -> None:
        mirror = reconciler(pods, groups=(GROUP, second))
        db = GroupRole(name="db", role="backup", since=1.0, reason="start", transitions=1)
        mirror.offer(Snapshot(groups=(*snapshot("master").groups, db)))
        mirror.finish()
        await mirror.run()

    asyncio.run(story())
    assert len(pods.writes) == 1
    assert pods.pods["a"].labels == {"carp-role-default": "master", "carp-role-db": "backup"}


def test_waiting_times_grow_to_their_bounds() -> None:
    mirror = reconciler(FakePods(own_name="a"))
    refused, down = ApiError("no", 403), DOWN
    delay, seen = 0.0, []
    for _ in range(10):
        delay = mirror._next_delay(delay, down)
        seen.append(delay)
    assert seen[0] == module.FIRST_DELAY
    assert seen == sorted(seen)
    assert seen[-1] == module.LONGEST_DELAY
    delays = [delay := mirror._next_delay(delay, refused) for _ in range(module.PATIENT_REFUSALS + 5)]
    assert delays[: module.PATIENT_REFUSALS] == [module.LONGEST_DELAY] * module.PATIENT_REFUSALS
    assert delays[-1] == module.REFUSED_DELAY
