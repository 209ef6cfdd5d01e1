"""The demo in front of a real API server: one that it is given, and one that it starts itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sidecar.demo.controlplane import ControlPlane
from tests.netns.story import check_story

pytestmark = [pytest.mark.cluster, pytest.mark.netns, pytest.mark.usefixtures("real_kernel")]


def demo(**environ: str) -> str:
    kept = {name: value for name, value in os.environ.items() if name not in {"TMPDIR", "DEMO_KUBECONFIG"}}
    done = subprocess.run(
        [sys.executable, "-m", "sidecar", "demo"],
        check=False,
        capture_output=True,
        text=True,
        timeout=400,
        env={**kept, "LC_ALL": "C.UTF-8", **environ},
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_cluster_that_is_given_is_used_in_a_namespace_of_its_own(control_plane: ControlPlane, tmp_path: Path) -> None:
    admin = control_plane.admin
    kubeconfig = admin.write_kubeconfig(tmp_path / "kubeconfig", admin.access.token)
    output = demo(DEMO_KUBECONFIG=str(kubeconfig))
    assert f"The API is the API server of DEMO_KUBECONFIG, {admin.access.server}." in output
    check_story(output)
    spaces = admin.request("GET", "/api/v1/namespaces")["items"]
    [ours] = [space["metadata"] for space in spaces if space["metadata"]["name"].startswith("carp-demo-")]
    assert "deletionTimestamp" in ours
    assert admin.list_pods("default") == []


@pytest.mark.usefixtures("control_plane")  # which says what is missing
def test_it_starts_a_control_plane_where_the_programs_are_at_hand() -> None:
    output = demo()
    assert "The API is a real Kubernetes API server, https://127.0.0.1:" in output
    check_story(output)
