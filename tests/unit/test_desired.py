"""What pods should say and who may say master, as pure functions."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pytest

from sidecar.agent import desired
from sidecar.agent.desired import Mastership, Metadata, Pod
from sidecar.ipc.messages import GroupRole, MirroredGroup, Snapshot

GROUP = MirroredGroup(name="web", interface="eth0", vhid=42, vips=("10.0.0.200/32", "fd00::200/128"))
ROLE = GroupRole(name="web", role="master", since=1795408808.0689, reason="master-down", transitions=3)
SINCE = "2026-11-23T04:40:08.068Z"
ALONE = desired.keys(role_label="carp-role", group="web", several=False)
SEVERAL = desired.keys(role_label="carp-role", group="web", several=True)


def pod(name: str = "a", labels: dict[str, str] | None = None, annotations: dict[str, str] | None = None) -> Pod:
    return Pod(name=name, uid=name, resource_version="1", labels=labels or {}, annotations=annotations or {})


def claiming(name: str, epoch: str | None, *, vhid: str = "42", since: str = "then", **changes: Any) -> Pod:
    annotations = {
        "carp-sidecar/vhid": vhid,
        "carp-sidecar/vips": "10.0.0.200/32,fd00::200/128",
        "carp-sidecar/since": since,
        "carp-sidecar/transitions": "3",
    }
    if epoch is not None:
        annotations["carp-sidecar/epoch"] = epoch
    labels = {"carp-role": "master"}
    return Pod(name=name, uid=name, resource_version="1", labels=labels, annotations=annotations, **changes)


def stand(
    *, targets: list[Pod], rivals: list[Pod], answered: Collection[Mastership] = (), newest: int = 0
) -> desired.Stand:
    seen = desired.Seen(targets=targets, rivals=rivals, answered=answered, newest=newest)
    return desired.stand(role=ROLE, using=ALONE, seen=seen)


# What a pod says -----------------------------------------------------------------------------------------------------


def test_a_lone_group_uses_the_plain_keys() -> None:
    assert desired.metadata(group=GROUP, role=ROLE, using=ALONE, epoch=7) == Metadata(
        labels={"carp-role": "master"},
        annotations={
            "carp-sidecar/vips": "10.0.0.200/32,fd00::200/128",
            "carp-sidecar/vhid": "42",
            "carp-sidecar/interface": "eth0",
            "carp-sidecar/since": SINCE,
            "carp-sidecar/transitions": "3",
            "carp-sidecar/reason": "master-down",
            "carp-sidecar/epoch": "7",
        },
    )
    assert (ALONE.condition, ALONE.members) == ("carp-sidecar/master", "carp-role")


def test_several_groups_carry_their_names() -> None:
    said = desired.metadata(group=GROUP, role=ROLE, using=SEVERAL, epoch=None)
    assert said.labels == {"carp-role-web": "master"}
    assert "carp-sidecar/web.vhid" in said.annotations
    assert not any(key.endswith("epoch") for key in said.annotations)
    assert (SEVERAL.condition, SEVERAL.members) == ("carp-sidecar/master-web", "carp-role-web")


def test_only_what_differs_is_written() -> None:
    said = desired.metadata(group=GROUP, role=ROLE, using=ALONE, epoch=7)
    there = pod(labels={"carp-role": "backup", "app": "x"}, annotations={**said.annotations, "note": "mine"})
    assert said.missing_from(there) == Metadata(labels={"carp-role": "master"}, annotations={})
    assert said.missing_from(pod(labels=dict(said.labels), annotations=dict(said.annotations))) is None


def test_the_condition_says_what_the_label_does() -> None:
    said = desired.with_condition(
        desired.metadata(group=GROUP, role=ROLE, using=ALONE, epoch=7), using=ALONE, since=ROLE.since
    )
    (condition,) = said.conditions
    assert (condition.type, condition.status, condition.reason) == ("carp-sidecar/master", "True", "Master")
    assert (condition.message, condition.since) == ("master-down", SINCE)
    silent = Pod(name="a", resource_version="1", labels=said.labels, annotations=said.annotations)
    assert said.missing_from(silent) == Metadata(labels={}, annotations={}, conditions=(condition,))
    lost = desired.with_condition(desired.demoted(by="b", using=ALONE), using=ALONE, since=0.0)
    assert (lost.conditions[0].status, lost.conditions[0].message) == ("False", "superseded by b")


def test_a_demoted_pod_says_by_whom() -> None:
    said = desired.demoted(by="b", using=ALONE)
    assert said == Metadata(labels={"carp-role": "backup"}, annotations={"carp-sidecar/reason": "superseded by b"})
    accused = pod(labels=dict(said.labels), annotations=dict(said.annotations))
    assert desired.is_accused([accused], ALONE)
    assert not desired.is_accused([pod(labels={"carp-role": "backup"})], ALONE)
    assert not desired.is_accused([pod(labels={"carp-role": "master"}, annotations=dict(said.annotations))], ALONE)


# Who may say master --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "epoch"), [("7", 7), ("", 0), ("x", 0), ("-3", 0), ("²", 0), ("9" * 30, 0)])
def test_an_epoch_that_is_no_number_counts_as_none(text: str, epoch: int) -> None:
    assert desired.epoch_of(claiming("a", text), ALONE) == epoch


def test_a_new_mastership_is_newer_than_all_and_supersedes_all() -> None:
    rivals = [claiming("b", "7"), claiming("c", None)]
    assert stand(targets=[claiming("a", "3")], rivals=rivals) == desired.Stand(
        epoch=8, stale=tuple(rivals), begins=True
    )
    assert stand(targets=[], rivals=[]).epoch == 1
    assert stand(targets=[], rivals=[], newest=41).epoch == 42


def test_a_mastership_that_is_told_already_keeps_its_epoch() -> None:
    older = claiming("b", "4")
    assert stand(targets=[claiming("a", "5", since=SINCE)], rivals=[older]) == desired.Stand(epoch=5, stale=(older,))


def test_a_claim_that_is_older_than_one_before_it_is_made_anew() -> None:
    own = claiming("a", "5", since=SINCE)
    assert stand(targets=[own], rivals=[], newest=5) == desired.Stand(epoch=5)
    assert stand(targets=[own], rivals=[], newest=7) == desired.Stand(epoch=8, begins=True)
    others = [claiming("b", "7"), claiming("c", "9", vhid="43")]
    assert desired.newest_among(others, group=GROUP, using=ALONE) == 7
    assert desired.newest_among([], group=GROUP, using=ALONE) == 0


def test_of_equal_claims_the_name_decides() -> None:
    assert stand(targets=[claiming("b", "5", since=SINCE)], rivals=[claiming("a", "5")]).stale
    assert stand(targets=[claiming("a", "5", since=SINCE)], rivals=[claiming("b", "5")]).begins


def test_a_newer_claim_is_contradicted_once_and_then_stands() -> None:
    own, newer = claiming("a", "5", since=SINCE), claiming("b", "6")
    first = stand(targets=[own], rivals=[newer])
    assert (first.epoch, first.stale, first.begins, first.defers_to) == (7, (newer,), True, None)
    assert first.answers is not None
    again = stand(targets=[own], rivals=[claiming("b", "8")], answered={first.answers})
    assert (again.defers_to, again.stale) == ("b", ())
    another = stand(targets=[own], rivals=[claiming("b", "8", since="later")], answered={first.answers})
    assert another.defers_to is None


@pytest.mark.parametrize("changes", [{"terminating": True}, {"ready": False}, {"ended": True}])
def test_the_claim_of_the_dead_does_not_stand(changes: dict[str, bool]) -> None:
    own, newer = claiming("a", "5", since=SINCE), claiming("b", "6", **changes)
    answered = {desired.mastership_of(newer, ALONE)}
    assert stand(targets=[own], rivals=[newer], answered=answered).stale == (newer,)


def test_only_masters_of_the_same_group_on_other_nodes_are_rivals() -> None:
    own = claiming("me", "1")
    pods = [
        own,
        claiming("rival", "4"),
        claiming("other-group", "1", vhid="43"),
        pod("labelled-by-hand", {"carp-role": "master"}),
        pod("backup", {"carp-role": "backup"}, dict(claiming("x", "1").annotations)),
    ]
    found = desired.rivals_among(pods, targets=[own], group=GROUP, using=ALONE)
    assert [each.name for each in found] == ["rival"]


def test_a_node_that_lets_go_of_a_group_is_not_shown_as_its_master() -> None:
    roles = {
        name: GroupRole(name=name, role=role, since=1.0, reason="master-down", transitions=2)
        for name, role in (("web", "master"), ("db", "master"), ("mail", "init"))
    }
    shown = desired.yielding(Snapshot(groups=tuple(roles.values())), {"web", "mail"})
    yielded = GroupRole(name="web", role="backup", since=1.0, reason="draining", transitions=2)
    assert shown.groups == (yielded, roles["db"], roles["mail"])
