"""Three sidecars on a real LAN and a real API server: who answers, what the pods say, what is on the wire."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from sidecar.control import ControlError
from sidecar.demo.controlplane import ControlPlane
from sidecar.demo.forward import ApiForwarder
from sidecar.demo.lan import Lan
from sidecar.demo.node import SidecarNode
from sidecar.demo.probe import arp_prober
from tests.netns.peers import until

pytestmark = [pytest.mark.cluster, pytest.mark.netns]

VIP = "10.77.0.100"
PORT = 6443
PASSWORD = "three nodes"
TSHARK = ("tshark", "-n", "-d", "ip.proto==112,carp")  # it takes protocol 112 for VRRP unless told


class Fleet:
    """One sidecar and one pod per node, each under its own service account; node-1 is preferred, then node-2."""

    def __init__(self, lan: Lan, plane: ControlPlane, namespace: str) -> None:
        self.lan = lan
        self.plane = plane
        self.namespace = namespace
        self.sidecars: dict[str, SidecarNode] = {}
        self.doors: dict[str, ApiForwarder] = {}

    def add(self, node_number: int, directory: Path, rules: list[dict[str, Any]], stack: ExitStack) -> None:
        node = self.lan.nodes[node_number]
        admin = self.plane.admin
        token = admin.create_account(self.namespace, node.name, rules=rules)
        kubeconfig = admin.write_kubeconfig(
            directory / f"{node.name}.kubeconfig", token, server=f"https://127.0.0.1:{PORT}"
        )
        admin.create_pod(self.namespace, node.name, node=node.name, labels={"app": "carp-sidecar"})
        host, _, port = admin.access.server.removeprefix("https://").rpartition(":")
        self.doors[node.name] = stack.enter_context(ApiForwarder(node, PORT, target_host=host, target_port=int(port)))
        secret = directory / "password"
        secret.write_text(PASSWORD)
        sidecar = SidecarNode(
            node,
            directory,
            {
                "CARP_VHID": "42",
                "CARP_VIPS": VIP,
                "CARP_PASSWORD_FILE": str(secret),
                "CARP_ADVSKEW": str(node_number * 50),
                "CARP_PREEMPT": "true",
                "CARP_KUBERNETES": "on",
                "KUBECONFIG": str(kubeconfig),
                "POD_NAME": node.name,
                "POD_NAMESPACE": self.namespace,
            },
        )
        self.sidecars[node.name] = sidecar
        stack.callback(sidecar.kill_all)

    def labelled(self) -> list[str]:
        """The pods that say master."""
        pods = self.plane.admin.list_pods(self.namespace, "carp-role=master")
        return sorted(pod["metadata"]["name"] for pod in pods)

    def pod(self, name: str) -> dict[str, Any]:
        return self.plane.admin.get_pod(self.namespace, name)["metadata"]

    def role(self, name: str) -> str | None:
        try:
            return self.sidecars[name].group().role
        except ControlError:
            return None

    def settled_on(self, name: str) -> None:
        """Wait until the network and Kubernetes agree on one master; then look who answers."""
        until(lambda: self.role(name) == "master", f"{name} becomes master")
        until(lambda: self.labelled() == [name], f"the label says {name} and nobody else")
        with arp_prober(self.lan, VIP) as prober:
            until(lambda: len(prober.answers().received) > 100, "the VIP answers ARP")
        assert prober.answers().answerers(0.0, float("inf")) == {name}
        assert self.labelled() == [name]


@pytest.fixture
def fleet(
    lan: Lan, control_plane: ControlPlane, namespace: str, role_rules: list[dict[str, Any]], tmp_path: Path
) -> Iterator[Fleet]:
    with ExitStack() as stack:
        fleet = Fleet(lan, control_plane, namespace)
        for number in range(3):
            fleet.add(number, tmp_path, role_rules, stack)
        yield fleet
        for name, sidecar in fleet.sidecars.items():
            print(f"--- {name}\n{sidecar.log}")


def test_the_vip_and_the_label_follow_every_fault(fleet: Fleet, lan: Lan, tmp_path: Path) -> None:
    first = fleet.sidecars["node-1"]
    with lan.capture(tmp_path / "story.pcap"):
        for sidecar in fleet.sidecars.values():
            sidecar.start()
        fleet.settled_on("node-1")

        first.kill_all()  # every process of it, so that nobody is left to relabel its pod
        fleet.settled_on("node-2")
        # Run late, node-2 may find node-3 master, which has relabelled the pod of the dead one by then.
        assert fleet.pod("node-1")["annotations"]["carp-sidecar/reason"].startswith("superseded by node-")

        first.start()  # the preferred node returns
        fleet.settled_on("node-1")

        lan.link_down(lan.nodes[0])
        fleet.settled_on("node-2")
        until(lambda: fleet.pod("node-1")["labels"]["carp-role"] == "init", "the cut off pod says so itself")

        lan.link_up(lan.nodes[0])
        fleet.settled_on("node-1")

        assert first.terminate() == 0
        fleet.settled_on("node-2")
        assert fleet.pod("node-1")["labels"]["carp-role"] == "init"
    assert_clean(tmp_path / "story.pcap")


def test_the_pods_say_what_the_design_promises_and_are_not_written_again(fleet: Fleet) -> None:
    for sidecar in fleet.sidecars.values():
        sidecar.start()
    fleet.settled_on("node-1")
    said = fleet.pod("node-1")["annotations"]
    group = fleet.sidecars["node-1"].group()
    assert said == {
        "carp-sidecar/vips": f"{VIP}/32",
        "carp-sidecar/vhid": "42",
        "carp-sidecar/interface": "eth0",
        "carp-sidecar/since": said["carp-sidecar/since"],
        "carp-sidecar/transitions": str(group.transitions),
        "carp-sidecar/reason": group.reason,
        "carp-sidecar/epoch": said["carp-sidecar/epoch"],
    }
    until(lambda: fleet.pod("node-3")["labels"].get("carp-role") == "backup", "the backups say so too")
    until(lambda: fleet.pod("node-2")["labels"].get("carp-role") == "backup", "the backups say so too")
    versions = {name: fleet.pod(name)["resourceVersion"] for name in fleet.sidecars}
    sent = group.adverts_sent
    until(lambda: fleet.sidecars["node-1"].group().adverts_sent > sent + 8, "eight more adverts")
    assert {name: fleet.pod(name)["resourceVersion"] for name in fleet.sidecars} == versions


def test_an_api_server_that_is_down_moves_nothing(fleet: Fleet, control_plane: ControlPlane) -> None:
    for sidecar in fleet.sidecars.values():
        sidecar.start()
    fleet.settled_on("node-1")
    control_plane.stop_apiserver()
    stopped = time.monotonic()
    sent = fleet.sidecars["node-1"].group().adverts_sent
    until(lambda: fleet.sidecars["node-1"].group().adverts_sent > sent + 5, "the master goes on")
    fleet.sidecars["node-1"].kill_all()
    until(lambda: fleet.role("node-2") == "master", "the VIP moves without an API server")
    time.sleep(max(0.0, stopped + 20 - time.monotonic()))  # the outage itself, not a wait for anything
    assert fleet.role("node-2") == "master"
    control_plane.start_apiserver()
    back = time.monotonic()
    until(lambda: fleet.labelled() == ["node-2"], "the label follows the API server's return")
    print(f"the label followed {time.monotonic() - back:.3f} s after the API server's return")
    assert fleet.sidecars["node-2"].log.count("cannot be reached") == 1


def test_an_api_server_that_hangs_is_not_noticed_by_the_engine(fleet: Fleet, control_plane: ControlPlane) -> None:
    for sidecar in fleet.sidecars.values():
        sidecar.start()
    fleet.settled_on("node-1")
    control_plane.pause_apiserver()
    assert fleet.sidecars["node-1"].terminate() == 0  # its agent is left behind waiting, and ended
    until(lambda: fleet.role("node-2") == "master", "the VIP moves while the API server hangs")
    sent = fleet.sidecars["node-2"].group().adverts_sent
    until(lambda: fleet.sidecars["node-2"].group().adverts_sent > sent + 5, "the new master goes on")
    control_plane.resume_apiserver()
    fleet.settled_on("node-2")


def assert_clean(capture: Path) -> None:
    """Have tshark read all adverts: all there, nothing malformed, every checksum right."""
    fields = subprocess.run(
        [*TSHARK, "-r", capture, "-Y", "carp", "-T", "fields"]
        + [
            word
            for field in ("ip.ttl", "carp.vhid", "carp.checksum.status", "carp.adver_int")
            for word in ("-e", field)
        ],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    assert len(fields) > 5
    assert {line.rsplit("\t", 1)[0] for line in fields} == {"255\t42\t1"}
    assert {line.rsplit("\t", 1)[1] for line in fields} == {"1", "255"}  # adverts, and the goodbye
    faults = subprocess.run(
        [*TSHARK, "-r", capture, "-Y", "_ws.malformed || (carp && _ws.expert)"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert faults == ""
