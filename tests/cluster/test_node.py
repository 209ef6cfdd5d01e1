"""What the Node object says, on a real API server: sidecars on a real LAN obey it, and nothing else moves the VIP."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml

from sidecar.agent.api import KubernetesPods
from sidecar.agent.follow import Which
from sidecar.agent.state import MirrorStatus
from sidecar.agent.transport import Transport
from sidecar.demo.controlplane import ControlPlane
from sidecar.demo.forward import ApiForwarder
from sidecar.demo.lan import Lan, Node
from sidecar.demo.node import SidecarNode
from sidecar.ipc.plan import KubernetesPlan
from tests.cluster.conftest import ROLE_RULES
from tests.netns.pair import holds
from tests.netns.peers import role, status, until

pytestmark = [pytest.mark.cluster, pytest.mark.netns]

VIP = "10.77.0.100"
PORT = 6443
CALM = 5
"""Adverts of a master without any change show that nothing moves: the other one would take over after three."""
RBAC = "/apis/rbac.authorization.k8s.io/v1"
CLUSTER_RULES = ROLE_RULES.with_name("cluster-role-rules.yaml")
REASON = "annotation carp-sidecar/maintenance: new disks"


class Site:
    """Two sidecars that obey their nodes; the first is preferred, and preempts."""

    def __init__(self, plane: ControlPlane, namespace: str) -> None:
        self.plane, self.namespace = plane, namespace
        self.sidecars: list[SidecarNode] = []

    def add(self, nodes: Sequence[Node], directory: Path, rules: list[dict[str, Any]], stack: ExitStack) -> None:
        namespace, admin = self.namespace, self.plane.admin
        host, _, port = admin.access.server.removeprefix("https://").rpartition(":")
        for number, node in enumerate(nodes):
            name = f"{node.name}-{namespace}"
            admin.request("POST", "/api/v1/nodes", {"metadata": {"name": name}})
            admin.create_pod(namespace, node.name, node=name)
            token = admin.create_account(namespace, node.name, rules=rules)
            kubeconfig = admin.write_kubeconfig(
                directory / f"{node.name}.kubeconfig", token, server=f"https://127.0.0.1:{PORT}"
            )
            stack.enter_context(ApiForwarder(node, PORT, target_host=host, target_port=int(port)))
            settings = {
                "CARP_VHID": "42",
                "CARP_VIPS": VIP,
                "CARP_PASSWORD": "said by the node",
                "CARP_ADVSKEW": str(number * 50),
                "CARP_PREEMPT": "true",
                "CARP_KUBERNETES": "on",
                "CARP_NODE_ANNOTATIONS": "true",
                "CARP_CORDON": "true",
                "KUBECONFIG": str(kubeconfig),
                "POD_NAME": node.name,
                "POD_NAMESPACE": namespace,
                "NODE_NAME": name,
            }
            sidecar = SidecarNode(node, directory, settings)
            stack.callback(sidecar.kill_all)
            self.sidecars.append(sidecar)

    def let_read_nodes(self) -> None:
        """What the chart's ClusterRole grants."""
        name = f"nodes-of-{self.namespace}"
        rules = yaml.safe_load(CLUSTER_RULES.read_text())["node_annotations"]
        admin = self.plane.admin
        admin.request("POST", f"{RBAC}/clusterroles", {"metadata": {"name": name}, "rules": rules})
        accounts = [
            {"kind": "ServiceAccount", "name": each.node.name, "namespace": self.namespace} for each in self.sidecars
        ]
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}
        binding = {"metadata": {"name": name}, "roleRef": reference, "subjects": accounts}
        admin.request("POST", f"{RBAC}/clusterrolebindings", binding)

    def node(self, number: int, change: dict[str, Any]) -> None:
        name = f"{self.sidecars[number].node.name}-{self.namespace}"
        self.plane.admin.request("PATCH", f"/api/v1/nodes/{name}", change)

    def annotate(self, number: int, **annotations: str | None) -> None:
        said = {f"carp-sidecar/{name}": value for name, value in annotations.items()}
        self.node(number, {"metadata": {"annotations": said}})

    def leads(self, number: int) -> bool:
        return [role(each) == "master" and holds(each.node, VIP) for each in self.sidecars] == [
            number == 0,
            number == 1,
        ]

    def demotions(self, number: int) -> dict[str, str] | None:
        found = status(self.sidecars[number])
        return None if found is None else {each.name: each.detail for each in found.demotions}

    def advskew(self, number: int) -> int | None:
        found = status(self.sidecars[number])
        return None if found is None else found.advskew

    def says(self, number: int) -> str | None:
        pod = self.plane.admin.get_pod(self.namespace, self.sidecars[number].node.name)
        said: str | None = pod["metadata"].get("labels", {}).get("carp-role")
        return said

    def nothing_moves(self, number: int) -> None:
        def counted() -> tuple[int, list[int]]:
            found = [each.group() for each in self.sidecars]
            return found[number].adverts_sent, [each.transitions for each in found]

        before, transitions = counted()
        until(lambda: counted()[0] >= before + CALM, "time passes")
        assert counted()[1] == transitions
        assert self.leads(number)

    def events(self) -> list[dict[str, Any]]:
        path = f"/api/v1/namespaces/{self.namespace}/events?fieldSelector={quote('reason=AnnotationRefused')}"
        found: list[dict[str, Any]] = self.plane.admin.request("GET", path)["items"]
        return found


@contextmanager
def watching(plane: ControlPlane, namespace: str, directory: Path) -> Iterator[list[tuple[str, str, str]]]:
    """Whatever any pod says from now on, in the order of the API server: pod, role, reason."""
    kubeconfig = plane.admin.write_kubeconfig(directory / "observer.kubeconfig", plane.admin.access.token)
    plan = KubernetesPlan(pod_name="", pod_namespace=namespace, role_label="carp-role", kubeconfig=str(kubeconfig))
    seen: list[tuple[str, str, str]] = []
    listed, ended = threading.Event(), threading.Event()

    async def look() -> None:
        transport = Transport(plan, MirrorStatus())
        pods = KubernetesPods(namespace, transport)
        version = (await pods.list(Which())).version
        listed.set()

        async def note() -> None:
            async for change in pods.watch(Which(), version, seconds=600):
                if change.item is not None:
                    said = change.item.annotations.get("carp-sidecar/reason", "")
                    seen.append((change.item.name, change.item.labels.get("carp-role", ""), said))

        task = asyncio.create_task(note())
        await asyncio.to_thread(ended.wait)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await transport.close()
        await asyncio.sleep(0.25)  # TLS says goodbye, which aiohttp does not wait for

    thread = threading.Thread(target=lambda: asyncio.run(look()))
    thread.start()
    assert listed.wait(60)
    try:
        yield seen
    finally:
        ended.set()
        thread.join(60)


@pytest.fixture
def site(
    lan: Lan, control_plane: ControlPlane, namespace: str, role_rules: list[dict[str, Any]], tmp_path: Path
) -> Iterator[Site]:
    with ExitStack() as stack:
        site = Site(control_plane, namespace)
        site.add(lan.nodes[:2], tmp_path, role_rules, stack)
        try:
            for sidecar in site.sidecars:
                sidecar.start()
                until(lambda: role(site.sidecars[0]) == "master", "the preferred one leads")
            yield site
        except BaseException as error:
            error.add_note("\n".join(f"--- {each.node.name}\n{each.log}" for each in site.sidecars))
            raise


def test_the_node_object_decides_and_an_api_server_that_is_away_does_not(  # noqa: PLR0915 - one story
    site: Site, control_plane: ControlPlane, tmp_path: Path
) -> None:
    first, second = site.sidecars

    # Without the right nothing is known; what is missing is named with its remedy.
    site.annotate(0, maintenance="new disks")
    missing = "the right to list nodes is missing (403); bind the ClusterRole with it that the chart ships"
    until(lambda: missing in first.log, "the right is named")
    until(lambda: site.leads(0), "nobody obeys what he cannot read")
    site.let_read_nodes()

    # The annotation is a demotion with its reason, and the VIP goes to the other one.
    until(lambda: site.leads(1), "the VIP is handed over")
    assert site.demotions(0) == {"node-maintenance": REASON}
    assert second.group().reason == "demoted-master"

    # The API server is away: what was said stands, whatever becomes of the agent and of the sidecar.
    control_plane.stop_apiserver()
    pid = first.pids()["agent"]
    first.node.run(["kill", "-KILL", str(pid)])
    until(lambda: first.pids().get("agent", pid) != pid, "another agent is there")
    site.nothing_moves(1)
    first.kill_all()
    first.start()
    until(lambda: role(first) == "backup", "it is back")
    assert site.demotions(0) == {"node-maintenance": REASON}
    site.nothing_moves(1)
    control_plane.start_apiserver()
    site.nothing_moves(1)

    # It is given back exactly: the preferred node takes over again.
    site.annotate(0, maintenance=None)
    until(lambda: site.leads(0), "the preferred one is back")
    assert site.demotions(0) == {}

    # A cordon does the same.
    site.node(0, {"spec": {"unschedulable": True}})
    until(lambda: site.leads(1), "the cordoned one yields")
    assert site.demotions(0) == {"cordon": "the node is cordoned"}
    site.node(0, {"spec": {"unschedulable": None}})
    until(lambda: site.leads(0), "it is uncordoned")

    # advskew, live: the engine stays, the election follows by preemption.
    engine = first.pids()["engine"]
    site.annotate(0, advskew="200")
    until(lambda: site.leads(1), "the other one is preferred now")
    assert (site.advskew(0), site.demotions(0)) == (200, {})
    assert first.pids()["engine"] == engine
    site.annotate(0, advskew="255")
    refused = "annotation carp-sidecar/advskew='255' is no whole number from 0 to 254"
    until(lambda: refused in first.log, "it is refused")
    until(lambda: len(site.events()) == 2, "on the pod and on the node")
    assert {each["type"] for each in site.events()} == {"Warning"}
    assert site.advskew(0) == 200
    site.nothing_moves(1)
    site.annotate(0, advskew=None)
    until(lambda: site.leads(0), "the settings' own is back in force")
    assert site.advskew(0) == 0

    # SIGTERM: the label first, so that a Service sends nobody there any more, then the VIP; never two that say master.
    until(lambda: site.says(0) == "master", "the label says so")
    with watching(control_plane, site.namespace, tmp_path) as seen:
        assert first.terminate() == 0
        until(lambda: site.leads(1), "the other one leads")
        until(lambda: ("node-2", "master", "bow-out") in seen, "its label follows")
    draining, taken = ("node-1", "backup", "draining"), ("node-2", "master", "bow-out")
    assert seen.index(draining) < seen.index(("node-1", "init", "stop"))
    assert seen.index(draining) < seen.index(taken)
    assert f"{second.node.address} is master now" in first.log
