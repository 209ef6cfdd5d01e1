"""What a sidecar takes as the chart installs it: the account of a pod, a real API server, mirror and listener on."""

from __future__ import annotations

import compileall
import sys
from pathlib import Path

import pytest

from bench.processes import memory
from sidecar.demo.controlplane import ControlPlane
from sidecar.demo.forward import ApiForwarder
from sidecar.demo.lan import Lan
from sidecar.demo.node import SidecarNode
from tests.cluster.conftest import rules_of
from tests.netns.peers import until

pytestmark = [pytest.mark.cluster, pytest.mark.netns]

ROOT = Path(__file__).parents[2]
AT_MOST = 90.0
"""MB. docs/architecture.md says 77; a process of another Python, or of other versions, takes some more."""
ASK = "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9112/{}', timeout=10).read()"


def test_all_processes_together_take_little_memory(
    lan: Lan, control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    compileall.compile_dir(ROOT / "sidecar", quiet=2)  # as in the image: a process that compiles keeps 4 to 8 MB
    admin, node = control_plane.admin, lan.nodes[0]
    (tmp_path / "token").write_text(admin.create_account(namespace, "carp", rules=rules_of("mirror", "events")))
    (tmp_path / "ca.crt").write_text(admin.access.ca)
    admin.create_pod(namespace, node.name, node=node.name, labels={"app": "carp-sidecar"})
    host, _, port = admin.access.server.removeprefix("https://").rpartition(":")
    settings = {
        "CARP_VHID": "42",
        "CARP_VIPS": "10.77.0.100",
        "CARP_PASSWORD": "memory",
        "CARP_KUBERNETES": "auto",
        "CARP_HTTP_LISTEN": "127.0.0.1:9112",
        "KUBERNETES_SERVICE_HOST": "127.0.0.1",
        "KUBERNETES_SERVICE_PORT": "6443",
        "POD_NAME": node.name,
        "POD_NAMESPACE": namespace,
    }
    with (
        ApiForwarder(node, 6443, target_host=host, target_port=int(port)),
        SidecarNode(node, tmp_path, settings, account=tmp_path) as sidecar,
    ):
        try:
            until(lambda: bool(admin.list_pods(namespace, "carp-role=master")), "the pod says master")
            for path in ("", "metrics", "status"):
                node.run([sys.executable, "-c", ASK.format(path)])
            taken = memory(sidecar.pids())
        finally:
            print(sidecar.log)
    print(taken)
    assert taken.keys() == {"parent", "engine", "agent"}
    assert sum(taken.values()) < AT_MOST
