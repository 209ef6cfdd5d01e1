"""Asking for rights where there is nobody to ask; a real API server answers in tests/cluster/test_install.py."""

from __future__ import annotations

from pathlib import Path

from sidecar.demo.controlplane import free_port
from sidecar.doctor.rights import ask
from sidecar.ipc.plan import KubernetesPlan
from tests.fakes.http import write_kubeconfig


def plan(kubeconfig: str) -> KubernetesPlan:
    return KubernetesPlan(pod_name="pod", pod_namespace="default", role_label="carp-role", kubeconfig=kubeconfig)


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
