"""Asking for rights where there is nobody to ask; a real API server answers in tests/cluster/test_install.py."""

from __future__ import annotations

from pathlib import Path

import msgspec

from sidecar.demo.controlplane import free_port
from sidecar.doctor.rights import NEEDED, ask, needed
from sidecar.ipc.plan import KubernetesPlan, MirrorPlan, ProbeKind, ProbePlan
from tests.fakes.http import write_kubeconfig
from tests.fakes.plans import group_plan


def plan(kubeconfig: str) -> KubernetesPlan:
    return KubernetesPlan(pod_name="pod", pod_namespace="default", role_label="carp-role", kubeconfig=kubeconfig)


def test_only_what_the_settings_need_is_asked_for() -> None:
    assert needed(plan(""), ()) == tuple((*right, "") for right in NEEDED["mirror"])
    features = ("events", "node_events", "readiness_condition", "lease_witness", "node_annotations", "cordon")
    every = msgspec.structs.replace(plan(""), **dict.fromkeys(features, True))
    group = group_plan(mirror=MirrorPlan(endpoint_slice="web", load_balancer_class="carp/vip"))
    probe = ProbePlan(name="x", kind=ProbeKind.NODE_CONDITION, target=("Ready=True",))
    asked = needed(every, (group,), (probe,))
    assert {right[:2] for right in asked} == {right for rights in NEEDED.values() for right in rights}
    assert {right for right in asked if right[2]} == {("create", "events", "default"), ("patch", "events", "default")}
    assert len(set(asked)) == len(asked)


def test_a_server_that_is_away_is_a_text(tmp_path: Path) -> None:
    answer = ask(plan(write_kubeconfig(tmp_path / "kubeconfig", free_port())))
    assert isinstance(answer, str)
    assert answer.startswith("the API server cannot be asked: ")
    assert "a-token" not in answer


def test_a_kubeconfig_that_is_none_is_a_text(tmp_path: Path) -> None:
    (tmp_path / "kubeconfig").write_text("nothing: here")
    assert "the API server cannot be asked" in str(ask(plan(str(tmp_path / "kubeconfig"))))


def test_outside_a_pod_without_a_kubeconfig_it_is_a_text() -> None:
    assert "the API server cannot be asked" in str(ask(plan("")))
