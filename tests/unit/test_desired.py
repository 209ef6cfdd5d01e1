"""What pods should say, as pure functions."""

from __future__ import annotations

import pytest

from sidecar.agent import desired
from sidecar.agent.desired import Metadata, Pod
from sidecar.ipc.messages import GroupRole, MirroredGroup

GROUP = MirroredGroup(name="web", interface="eth0", vhid=42, vips=("10.0.0.200/32", "fd00::200/128"))
ROLE = GroupRole(name="web", role="master", since=1795408808.0689, reason="master-down", transitions=3)
ALONE = desired.keys(role_label="carp-role", group="web", several=False)
SEVERAL = desired.keys(role_label="carp-role", group="web", several=True)


def pod(name: str = "a", labels: dict[str, str] | None = None, annotations: dict[str, str] | None = None) -> Pod:
    return Pod(name=name, resource_version="1", labels=labels or {}, annotations=annotations or {})


def claiming(name: str, epoch: str | None, *, vhid: str = "42") -> Pod:
    annotations = {"carp-sidecar/vhid": vhid, "carp-sidecar/vips": "10.0.0.200/32,fd00::200/128"}
    if epoch is not None:
        annotations["carp-sidecar/epoch"] = epoch
    return pod(name, {"carp-role": "master"}, annotations)


def test_a_lone_group_uses_the_plain_keys() -> None:
    assert desired.metadata(group=GROUP, role=ROLE, using=ALONE, epoch=7) == Metadata(
        labels={"carp-role": "master"},
        annotations={
            "carp-sidecar/vips": "10.0.0.200/32,fd00::200/128",
            "carp-sidecar/vhid": "42",
            "carp-sidecar/interface": "eth0",
            "carp-sidecar/since": "2026-11-23T04:40:08.068Z",
            "carp-sidecar/transitions": "3",
            "carp-sidecar/reason": "master-down",
            "carp-sidecar/epoch": "7",
        },
    )


def test_several_groups_carry_their_names() -> None:
    said = desired.metadata(group=GROUP, role=ROLE, using=SEVERAL, epoch=None)
    assert said.labels == {"carp-role-web": "master"}
    assert "carp-sidecar/web.vhid" in said.annotations
    assert not any(key.endswith("epoch") for key in said.annotations)


def test_only_what_differs_is_written() -> None:
    said = desired.metadata(group=GROUP, role=ROLE, using=ALONE, epoch=7)
    there = pod(labels={"carp-role": "backup", "app": "x"}, annotations={**said.annotations, "note": "mine"})
    assert said.missing_from(there) == Metadata(labels={"carp-role": "master"}, annotations={})
    assert said.missing_from(pod(labels=dict(said.labels), annotations=dict(said.annotations))) is None


@pytest.mark.parametrize(("text", "epoch"), [("7", 7), ("", 0), ("x", 0), ("-3", 0), ("²", 0)])
def test_an_epoch_that_is_no_number_counts_as_none(text: str, epoch: int) -> None:
    assert desired.epoch_of(claiming("a", text), ALONE) == epoch


def test_the_next_epoch_is_newer_than_all() -> None:
    assert desired.next_epoch([claiming("a", "7"), claiming("b", None), claiming("c", "3")], ALONE) == 8
    assert desired.next_epoch([], ALONE) == 1


def test_only_older_masters_of_the_same_group_are_superseded() -> None:
    pods = [
        claiming("me", "1"),
        claiming("older", "4"),
        claiming("silent", None),
        claiming("newer", "9"),
        claiming("as-new", "5"),
        claiming("other-group", "1", vhid="43"),
        pod("labelled-by-hand", {"carp-role": "master"}),
        pod("backup", {"carp-role": "backup"}, dict(claiming("x", "1").annotations)),
    ]
    found = desired.superseded(pods=pods, own="me", group=GROUP, using=ALONE, epoch=5)
    assert [p.name for p in found] == ["older", "silent"]


def test_a_demoted_pod_says_by_whom() -> None:
    said = desired.demoted(by="b", using=ALONE)
    assert said == Metadata(labels={"carp-role": "backup"}, annotations={"carp-sidecar/reason": "superseded by b"})
