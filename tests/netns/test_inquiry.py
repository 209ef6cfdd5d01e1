"""Who has the VIPs, asked on a real LAN: before the first bind, and as the proof of each announcement.

The stranger is a plain kernel that has the VIPs, as a killed ucarp or a careless hand leaves it: it speaks no CARP.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from sidecar.demo.lan import Lan, Node
from sidecar.demo.node import SidecarNode
from sidecar.ipc.messages import GroupStatus
from tests.netns.pair import holds
from tests.netns.peers import role, status, until

VIPS = {4: "10.77.0.100", 6: "fd77::100"}
_LISTENER = "127.0.0.1:9112"
_READ = f"""
import sys, urllib.request
sys.stdout.write(urllib.request.urlopen("http://{_LISTENER}/metrics", timeout=20).read().decode())
"""


class Alone:
    """The only member of a group, whose one VIP is of one IP version, and a gateway that can be asked for the way."""

    def __init__(self, node: Node, gateway: Node, directory: Path, version: int) -> None:
        self.vip = VIPS[version]
        way = gateway.address if version == 4 else gateway.address6
        node.run(["ip", f"-{version}", "route", "add", "default", "via", way])
        settings = {
            "CARP_VHID": str(40 + version),
            "CARP_VIPS": self.vip,
            "CARP_PASSWORD": "nobody else",
            "CARP_HTTP_LISTEN": _LISTENER,
        }
        self.sidecar = SidecarNode(node, directory, settings)

    @property
    def found(self) -> GroupStatus:
        return self.sidecar.group()

    @property
    def bound(self) -> bool:
        return holds(self.sidecar.node, self.vip)

    def announce_anew(self) -> int:
        """Have it begin its announcements anew: a VIP that somebody deletes is put back and announced again.

        Return how many there are once the first of these was asked after: with the one that follows it.
        """
        before = self.found.announcements
        self.sidecar.node.run(["ip", "address", "delete", host(self.vip), "dev", "eth0"])
        return before + 2

    def metric(self) -> set[str]:
        told = self.sidecar.node.run([sys.executable, "-c", _READ]).stdout
        return set(re.findall(r'^carp_takeover\{.*state="(\w+)".*\} 1(?:\.0)?$', told, re.MULTILINE))


def host(vip: str) -> str:
    return f"{vip}/{128 if ':' in vip else 32}"


def deafen(node: Node) -> None:
    """Let a node answer no question about who has an address, as one that is off."""
    for rule in ("arp deaf in drop", "ip6 deaf in icmpv6 type nd-neighbor-solicit drop"):
        family = rule.split()[0]
        node.run(["nft", f"add table {family} deaf"])
        node.run(["nft", f"add chain {family} deaf in {{ type filter hook input priority 0 ; }}"])
        node.run(["nft", f"add rule {rule}"])


def hear(node: Node) -> None:
    for family in ("arp", "ip6"):
        node.run(["nft", f"delete table {family} deaf"])


def test_nothing_is_bound_beside_a_stranger_and_each_announcement_is_proved(lan: Lan, tmp_path: Path) -> None:
    *ours, stranger = lan.nodes
    both = [Alone(node, lan.client, tmp_path, version) for node, version in zip(ours, VIPS, strict=True)]
    try:
        held_back_by(stranger, both)
        proved(lan.client, stranger, both)
    except BaseException as error:
        error.add_note("\n".join(f"--- {each.vip}:\n{each.sidecar.log}" for each in both))
        raise
    finally:
        for each in both:
            each.sidecar.kill_all()


def held_back_by(stranger: Node, both: list[Alone]) -> None:
    """Before the first bind he is found and named; once he is gone, the VIPs are bound."""
    for each in both:
        stranger.run(["ip", "address", "add", host(each.vip), "dev", "eth0"])
        each.sidecar.start()
    for each in both:
        until(lambda each=each: (s := status(each.sidecar)) and s.held_back, f"{each.vip} is not bound")
        found, is_at = each.found, f"{each.vip} is at {stranger.mac}"
        assert (found.role, found.transitions, found.adverts_sent, each.bound) == ("backup", 1, 0, False)
        assert found.held_back is not None
        assert found.held_back.startswith(is_at)
        assert f"not master yet: {is_at}" in each.sidecar.log
    for each in both:
        stranger.run(["ip", "address", "delete", host(each.vip), "dev", "eth0"])
        until(lambda each=each: role(each.sidecar) == "master" and each.bound, f"{each.vip} is bound")
        assert each.found.held_back is None


def proved(neighbour: Node, stranger: Node, both: list[Alone]) -> None:
    """Nobody can be asked; a neighbour tells; a stranger takes the VIPs beside us; he is gone."""
    deafen(neighbour)
    prove(both, "unknown")
    hear(neighbour)
    prove(both, "confirmed")
    for each in both:
        stranger.run(["ip", "address", "add", host(each.vip), "dev", "eth0"])
    prove(both, "contested")
    for each in both:
        assert each.found.contestants == (f"{each.vip} at {stranger.mac}",)
        assert f"{each.vip} is contested: {stranger.mac} answers for it too" in each.sidecar.log
        assert (each.found.role, each.bound) == ("master", True)  # he has no say in who is
        stranger.run(["ip", "address", "delete", host(each.vip), "dev", "eth0"])
    prove(both, "confirmed")
    assert [each.found.contestants for each in both] == [(), ()]


def prove(both: list[Alone], proof: str) -> None:
    """Wait for the proof of announcements that begin now, in status and metric."""
    asked = [(each, each.announce_anew()) for each in both]
    for each, count in asked:
        until(lambda each=each, count=count: each.found.announcements >= count, f"{each.vip} is announced anew")
        until(lambda each=each: each.found.proof == proof, f"{each.vip} is {proof}")
    for each in both:
        until(lambda each=each: each.metric() == {proof}, f"the metric says that {each.vip} is {proof}", every=0.2)
