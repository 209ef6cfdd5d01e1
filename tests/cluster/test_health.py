"""Probes that ask Kubernetes, on a real API server: a container's readiness and a condition of the node."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sidecar.children import Child, spawn
from sidecar.demo.controlplane import ControlPlane
from sidecar.ipc.messages import MirroredGroup, Probed, StandAside, StartAgent
from sidecar.ipc.plan import KubernetesPlan, ProbeKind, ProbePlan

pytestmark = pytest.mark.cluster

GROUP = MirroredGroup(name="web", interface="eth0", vhid=42, vips=("10.0.0.200/32",))
SICK = "the node's condition DiskPressure is True, 2 times in a row"
UNREADY = "container app is not ready, 2 times in a row"
RBAC = "/apis/rbac.authorization.k8s.io/v1"


class World:
    """A namespace with a pod on a node of its own, and an account that may do what the chart's Role allows."""

    def __init__(self, plane: ControlPlane, namespace: str, directory: Path, rules: list[dict[str, Any]]) -> None:
        self.plane = plane
        self.namespace = namespace
        self.node = f"node-of-{namespace}"
        admin = plane.admin
        admin.create_node(self.node)
        admin.create_pod(namespace, "carp-1", node=self.node)
        self.ready(True)
        self.condition("DiskPressure", "False")
        token = admin.create_account(namespace, "carp", rules=rules)
        self.kubeconfig = admin.write_kubeconfig(directory / "kubeconfig", token)

    def ready(self, ready: bool) -> None:
        container = {
            "name": "app",
            "ready": ready,
            "restartCount": 0,
            "image": "app",
            "imageID": "",
            "state": {"running": {}},
        }
        path = f"/api/v1/namespaces/{self.namespace}/pods/carp-1/status"
        self.plane.admin.request("PATCH", path, {"status": {"containerStatuses": [container]}})

    def condition(self, kind: str, status: str) -> None:
        conditions = [{"type": kind, "status": status}]
        self.plane.admin.request("PATCH", f"/api/v1/nodes/{self.node}/status", {"status": {"conditions": conditions}})

    def let_read_the_node(self) -> None:
        """What docs/health.md asks for: the right to get this one node."""
        name = f"reader-of-{self.node}"
        rule = {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"], "resourceNames": [self.node]}
        self.plane.admin.request("POST", f"{RBAC}/clusterroles", {"metadata": {"name": name}, "rules": [rule]})
        binding = {
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": "carp", "namespace": self.namespace}],
        }
        self.plane.admin.request("POST", f"{RBAC}/clusterrolebindings", binding)

    @contextmanager
    def agent(self, *probes: ProbePlan) -> Iterator[Child]:
        plan = KubernetesPlan(
            pod_name="carp-1", pod_namespace=self.namespace, role_label="carp-role", kubeconfig=str(self.kubeconfig)
        )
        agent = spawn("agent", ["info", "text"], now=0.0)
        try:
            start = StartAgent(node=self.node, kubernetes=plan, groups=(GROUP,), health=probes)
            agent.channel.send(start)
            agent.channel.socket.settimeout(90)
            yield agent
        finally:
            agent.kill()
            agent.channel.close()
            agent.process.wait()


def heard(agent: Child) -> object:
    """What it says next of its probes; that no rollout asks for anything is said as well."""
    while (received := agent.channel.receive()) is not None:
        if not isinstance(received[0], StandAside):
            return received[0]
    return None


def probe(kind: ProbeKind, target: str) -> ProbePlan:
    return ProbePlan(name="x", kind=kind, target=(target,), interval=0.2, timeout=30.0, rise=2, fall=2)


@pytest.fixture
def world(control_plane: ControlPlane, namespace: str, tmp_path: Path, role_rules: list[dict[str, Any]]) -> World:
    return World(control_plane, namespace, tmp_path, role_rules)


def test_a_containers_readiness_decides_and_an_api_server_that_is_away_changes_nothing(world: World) -> None:
    with world.agent(probe(ProbeKind.CONTAINER, "app")) as agent:
        assert heard(agent) == Probed(failing={})
        world.ready(False)
        assert heard(agent) == Probed(failing={0: UNREADY})
        world.plane.stop_apiserver()
        agent.channel.socket.settimeout(3)
        with pytest.raises(TimeoutError):
            heard(agent)
        agent.channel.socket.settimeout(90)
        world.plane.start_apiserver()
        world.ready(True)
        assert heard(agent) == Probed(failing={})


def test_a_condition_of_the_node_decides_once_the_right_to_read_it_is_there(
    world: World, capfd: pytest.CaptureFixture[str]
) -> None:
    said = ""
    with world.agent(probe(ProbeKind.NODE_CONDITION, "DiskPressure=False")) as agent:
        while "the right to get nodes" not in said:
            said += capfd.readouterr().err
        world.let_read_the_node()
        assert heard(agent) == Probed(failing={}), "without the right nothing is known"
        world.condition("DiskPressure", "True")
        assert heard(agent) == Probed(failing={0: SICK})
        world.condition("DiskPressure", "Unknown")
        world.condition("DiskPressure", "False")
        assert heard(agent) == Probed(failing={})
