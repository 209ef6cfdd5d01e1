"""Three nodes on a LAN whose probes decide: an HTTP server, a command and the gateway's ARP, all of them real."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from sidecar.demo.lan import Lan, Node
from sidecar.demo.node import SidecarNode
from tests.netns.pair import holds
from tests.netns.peers import role, status, until

pytestmark = [pytest.mark.netns, pytest.mark.usefixtures("real_kernel")]

VIP = "10.77.0.100"
PORT = 8080
CALM = 4
"""Adverts of a master without any change show that nothing moves: the others would take over from the first."""
SOON = {
    "base_reachable_time_ms": "1000",
    "delay_first_probe_time": "1",
    "retrans_time_ms": "250",
}
"""How soon the kernel doubts and gives up a neighbour: after some three seconds, instead of a minute."""


class Member:
    """A node with its sidecar; ``app`` and ``disk`` are what its HTTP server and its command look for."""

    def __init__(self, node: Node, directory: Path, stack: ExitStack, *, advskew: int) -> None:
        self.node = node
        own = directory / node.name
        own.mkdir()
        self.app, self.disk = own / "app", own / "disk"
        self.well()
        for name, value in SOON.items():
            node.run(["sysctl", "-q", "-w", f"net.ipv4.neigh.eth0.{name}={value}"])
        node.run(["ip", "route", "add", "default", "via", "10.77.0.200"])
        server = [sys.executable, "-m", "http.server", str(PORT), "--bind", "127.0.0.1", "--directory", str(own)]
        serving = node.popen(server, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        stack.callback(serving.wait)
        stack.callback(serving.kill)
        common = {"interval": "300ms", "timeout": "10s", "rise": 2, "fall": 2}
        probes = [
            {"name": "app", "http": f"http://127.0.0.1:{PORT}/app", "weight": 100, **common},
            {"name": "disk", "exec": ["/bin/test", "-e", str(self.disk)], "weight": 100, **common},
            {"name": "uplink", "gateway": "true", **common, "timeout": "1s"},
        ]
        settings = {
            "CARP_VHID": "42",
            "CARP_VIPS": VIP,
            "CARP_PASSWORD": "in good health",
            "CARP_ADVSKEW": str(advskew),
            "CARP_HEALTH": json.dumps(probes),
        }
        self.sidecar = stack.enter_context(SidecarNode(node, directory, settings))

    def well(self) -> None:
        self.app.touch()
        self.disk.touch()

    def deafen(self) -> None:
        """Let it hear no ARP of the gateway any more."""
        self.node.run(["nft", "add table netdev deaf"])
        self.node.run(["nft", "add chain netdev deaf in { type filter hook ingress device eth0 priority 0 ; }"])
        self.node.run(["nft", "add rule netdev deaf in arp saddr ip 10.77.0.200 drop"])

    def demotions(self) -> dict[str, str] | None:
        found = status(self.sidecar)
        return None if found is None else {each.name: f"{each.weight} {each.detail}" for each in found.demotions}

    def demotion(self) -> int | None:
        found = status(self.sidecar)
        return None if found is None else found.demotion

    def adverts(self) -> int:
        found = status(self.sidecar)
        return 0 if found is None else found.adverts_sent


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[list[Member]]:
    with Lan(nodes=3, prefix="carphealth") as lan, ExitStack() as stack:
        members: list[Member] = []
        try:
            for node, advskew in zip(lan.nodes, (0, 120, 240), strict=True):
                members.append(Member(node, tmp_path, stack, advskew=advskew))
                until(lambda: role(members[0].sidecar) == "master", "the first one is master")
            yield members
        except BaseException as error:
            error.add_note("\n".join(f"--- {each.node.name}:\n{each.sidecar.log}" for each in members))
            raise


def test_probes_decide_and_where_all_fail_alike_nothing_moves(fleet: list[Member]) -> None:
    first, second, third = fleet

    def leads(member: Member) -> bool:
        return role(member.sidecar) == "master" and [holds(each.node, VIP) for each in fleet] == [
            each is member for each in fleet
        ]

    def demoted(*wanted: int) -> bool:
        return [each.demotion() for each in fleet] == list(wanted)

    until(lambda: [role(each.sidecar) for each in fleet] == ["master", "backup", "backup"], "all are there")
    until(lambda: demoted(0, 0, 0), "all are well")

    # All fail the same probe: all are demoted alike, nothing moves, and the VIP stays answered.
    moves = [each.sidecar.group().transitions for each in fleet]
    # (The master finds out last: before the others have, it would yield to one of them.)
    second.app.unlink()
    third.app.unlink()
    until(lambda: demoted(0, 100, 100), "the backups are demoted")
    first.app.unlink()
    until(lambda: demoted(100, 100, 100), "each is demoted")
    assert first.demotions() == {"health:app": f"100 http://127.0.0.1:{PORT}/app answered 404, 2 times in a row"}
    before = first.adverts()
    until(lambda: first.adverts() >= before + CALM, "time passes")
    assert [each.sidecar.group().transitions for each in fleet] == moves
    assert leads(first)
    assert second.node.run(["ping", "-n", "-c", "1", "-W", "2", VIP]).stdout.count(f" ttl={first.node.ttl} ") == 1

    # The only one that is well takes over, whatever its advskew.
    third.app.touch()
    until(lambda: leads(third), "the healthy one leads")
    assert third.sidecar.group().reason == "demoted-master"

    # One soft failure is no worse than another node's; two are.
    third.disk.unlink()
    until(lambda: demoted(100, 100, 100), "each has one soft failure")
    before = third.adverts()
    until(lambda: third.adverts() >= before + CALM, "time passes")
    assert leads(third)
    third.app.unlink()
    until(lambda: leads(first), "two soft failures weigh more than one")
    until(lambda: demoted(100, 100, 200), "the weights are summed up")
    assert third.demotions() == {
        "health:app": f"100 http://127.0.0.1:{PORT}/app answered 404, 2 times in a row",
        "health:disk": "100 /bin/test ended with exit code 1, 2 times in a row",
    }

    # A node whose own way to the gateway is broken.
    # (The master is well first, and has said so: before, one that is well would take over from it.)
    first.well()
    until(lambda: first.demotion() == 0, "the master is well again")
    before = first.adverts()
    until(lambda: first.adverts() > before, "it has said so")
    for each in fleet:
        each.well()
    until(lambda: demoted(0, 0, 0), "all are well again")
    assert leads(first), "who is as good as the master does not take over"
    first.deafen()
    until(lambda: leads(second), "one that reaches the gateway leads")
    assert first.demotions() == {
        "health:uplink": "240 the default gateway of eth0 did not answer within 1 s, 2 times in a row"
    }

    # Its agent's end changes nothing; what it found still stands.
    pid = first.sidecar.pids()["agent"]
    first.node.run(["kill", "-KILL", str(pid)])
    until(lambda: first.sidecar.pids().get("agent", pid) != pid, "another agent is there")
    assert demoted(240, 0, 0)
    assert leads(second)
