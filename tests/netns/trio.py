"""Three sidecars of ours on a LAN of their own, with a client that believes only what it is told."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sidecar.decode import file_records, verifier_from_options
from sidecar.demo.lan import Lan, Node
from sidecar.demo.node import SidecarNode
from sidecar.ipc.messages import GroupStatus
from tests.netns.pair import holds
from tests.netns.peers import role, status, until

VIP, VIP6 = "10.77.0.100", "fd77::100"
LINK_LOCAL = tuple(f"fe80::ff:fe00:{number}" for number in (1, 2, 3))
"""What the nodes' kernels make of their MACs, 02:00:00:00:00:01 and so on."""
GLOBAL = ("fd77::1", "fd77::2", "fd77::3")
IPV4 = ("10.77.0.1", "10.77.0.2", "10.77.0.3")
CALM = 6
"""Adverts of a master without any change show that all is settled: the others' timers are of four at most."""
OWN = (
    {"CARP_ADVSKEW": "0"},
    {"CARP_ADVSKEW": "20", "CARP_PREEMPT": "true"},
    {"CARP_ADVSKEW": "254"},
)
Own = tuple[Mapping[str, str], Mapping[str, str], Mapping[str, str]]
"""Each one's own settings."""
HOUR = "3600000"  # milliseconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """``settings`` are for all three; ``sources`` are where their adverts come from, by IP version.

    ``unicast`` tells that each advert goes to each of the others; ``own`` are each one's own settings.
    """

    settings: Mapping[str, str] = field(default_factory=dict)
    vips: tuple[str, ...] = (VIP, VIP6)
    sources: Mapping[int, tuple[str, str, str]]
    unicast: bool = False
    own: Own = OWN


class Trio:
    """The three of them; none runs at first. ``first_python`` is the interpreter of the first one.

    The second one preempts, and their skews are far apart: without the first one it leads, even where it was late to
    be run and the third one stood up before it.
    """

    def __init__(self, lan: Lan, directory: Path, setting: Setting, *, first_python: str = sys.executable) -> None:
        self.lan = lan
        self.directory = directory
        self.setting = setting
        self.secret = directory / "password"
        self.secret.write_text("three of a kind")
        common = {"CARP_VHID": "42", "CARP_VIPS": ",".join(setting.vips), "CARP_PASSWORD_FILE": str(self.secret)}
        self.sidecars = tuple(
            SidecarNode(node, directory, common | dict(setting.settings) | dict(own), python=python)
            for node, own, python in zip(lan.nodes, setting.own, (first_python, *[sys.executable] * 2), strict=True)
        )
        for family in ("ipv4", "ipv6"):
            # The client never asks again where an address is: it learns of a move by an announcement or not at all.
            lan.client.run(["sysctl", "-q", "-w", f"net.{family}.neigh.eth0.base_reachable_time_ms={HOUR}"])

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait for a condition, without asking so often that the others starve."""
        until(condition, what, every=0.2)

    def begin(self) -> None:
        """Start all; the first one becomes master and the others hear it."""
        first, *others = self.sidecars
        first.start()
        self.until(lambda: role(first) == "master", "the first one is master")
        for sidecar in others:
            sidecar.start()
        self.settle(0)

    def sources(self, number: int) -> list[str]:
        """Where that node's adverts come from, the main IP version first."""
        return [addresses[number] for addresses in self.setting.sources.values()]

    def follows(self, sidecar: SidecarNode, master: int) -> bool:
        found = status(sidecar)
        return found is not None and found.role == "backup" and found.master in self.sources(master)

    def holders(self, vip: str) -> list[str]:
        """Who has a VIP on the interface."""
        return [node.name for node in self.lan.nodes if holds(node, vip)]

    def answers(self, vip: str) -> str:
        """Who answers the client's ping of a VIP: each node has a TTL of its own. Empty for nobody."""
        replied = self.lan.client.run(["ping", "-n", "-c", "1", "-W", "1", vip], check=False).stdout
        return next((node.name for node in self.lan.nodes if f" ttl={node.ttl} " in replied), "")

    def neighbour(self, vip: str) -> str:
        """The MAC that the client has for a VIP."""
        found = self.lan.client.run(["ip", "neighbour", "show", vip, "dev", "eth0"]).stdout.split()
        return found[found.index("lladdr") + 1] if "lladdr" in found else ""

    def expect(self, master: int) -> None:
        """Wait until that one alone is master and alone has the VIPs, those that run follow it, and the client too."""
        leader = self.sidecars[master]
        followers = [sidecar for sidecar in self.sidecars if sidecar.running and sidecar is not leader]
        self.until(lambda: role(leader) == "master", f"{leader.node.name} is master")
        for follower in followers:
            self.until(lambda one=follower: self.follows(one, master), f"{follower.node.name} follows")
        for vip in self.setting.vips:
            self.until(lambda vip=vip: self.holders(vip) == [leader.node.name], f"it alone has {vip}")
            self.until(lambda vip=vip: self.answers(vip) == leader.node.name, f"it answers for {vip}")
            assert self.neighbour(vip) == leader.node.mac

    def settle(self, master: int) -> None:
        """``expect``, and then see that nobody changes or refuses anything."""
        self.expect(master)
        before = self._unchanging()
        self.adverts(master, CALM)
        assert self._unchanging() == before

    def _unchanging(self) -> list[tuple[object, ...]]:
        found = [sidecar.status() for sidecar in self.sidecars if sidecar.running]
        return [
            (s.node, s.groups[0].role, s.groups[0].transitions, s.groups[0].drops, [i.drops for i in s.interfaces])
            for s in found
        ]

    def adverts(self, number: int, count: int) -> None:
        """Wait for so many adverts more of that node."""

        def sent() -> int:
            found = status(self.sidecars[number])
            return 0 if found is None else found.adverts_sent

        before = sent()
        self.until(lambda: sent() >= before + count, f"{count} adverts of node {number}")

    def groups(self) -> list[GroupStatus]:
        return [sidecar.group() for sidecar in self.sidecars]

    def drop(self, number: int, version: int) -> None:
        """Let a node receive no CARP over one IP version any more."""
        rule = "ip protocol 112 drop" if version == 4 else "ip6 nexthdr 112 drop"
        node = self.lan.nodes[number]
        node.run(["nft", "add table netdev deaf; flush table netdev deaf"])
        node.run(["nft", "add chain netdev deaf in { type filter hook ingress device eth0 priority 0 ; }"])
        node.run(["nft", f"add rule netdev deaf in {rule}"])

    def hear(self, number: int) -> None:
        """Undo ``drop``."""
        self.lan.nodes[number].run(["nft", "delete table netdev deaf"])


@contextlib.contextmanager
def trio(setting: Setting, directory: Path) -> Iterator[Trio]:
    """Make three on a LAN of their own, record all that crosses it, and check at the end what they have sent."""
    capture = directory / "lan.pcap"
    with Lan(nodes=3, prefix="carptrio") as lan:
        made = Trio(lan, directory, setting)
        try:
            with lan.capture(capture):
                yield made
            check_adverts(made, capture)
            check_announcements(made, capture)
        except BaseException as error:
            error.add_note("\n".join(f"--- {each.node.name}:\n{each.log}" for each in made.sidecars))
            raise
        finally:
            for sidecar in made.sidecars:
                sidecar.kill_all()


def told(capture: Path, which: str, fields: Sequence[str]) -> set[tuple[str, ...]]:
    """What tshark says of the packets that match, each kind once."""
    tshark = ["tshark", "-n", "-d", "ip.proto==112,carp", "-r", str(capture), "-Y", which, "-T", "fields"]
    words = [word for name in fields for word in ("-e", name)]
    printed = subprocess.run([*tshark, *words], check=True, capture_output=True, text=True).stdout
    return {tuple(map(_number, line.split("\t"))) for line in printed.splitlines()}


def _number(word: str) -> str:
    """The same for each width that tshark prints a hexadecimal number in."""
    return str(int(word, 16)) if word.startswith("0x") else word


ENVELOPES = {
    4: (
        "ip.proto == 112 && !icmp",
        ("eth.src", "ip.src", "eth.dst", "ip.dst", "ip.ttl", "ip.len", "ip.dsfield", "carp.checksum.status"),
    ),
    6: (
        "ipv6.nxt == 112 && !icmpv6",
        ("eth.src", "ipv6.src", "eth.dst", "ipv6.dst", "ipv6.hlim", "ipv6.plen", "ipv6.tclass", "ipv6.flow",
         "carp.checksum.status"),
    ),
}  # fmt: skip
REST = {4: ("255", "56", "16", "1"), 6: ("255", "36", "0", "0", "1")}
MULTICAST = {4: ("01:00:5e:00:00:12", "224.0.0.18"), 6: ("33:33:00:00:00:12", "ff02::12")}


def check_adverts(made: Trio, capture: Path) -> None:
    """See to it that the adverts are as they must be, in tshark's eyes, and authentic in our own decoder's."""
    setting, nodes = made.setting, made.lan.nodes
    for version, (which, fields) in ENVELOPES.items():
        hosts = list(zip(nodes, setting.sources.get(version, ()), strict=False))
        wanted = {
            (node.mac, source, *to, *REST[version])
            for node, source in hosts
            for to in ([] if setting.unicast else [MULTICAST[version]])
        }
        # A rival is answered by unicast, whatever the transport.
        wanted |= {
            (node.mac, source, other.mac, address, *REST[version])
            for node, source in hosts
            for other, address in hosts
            if other != node
        }
        seen = told(capture, which, fields)
        assert seen <= wanted
        assert {each[1] for each in seen} >= {source for _, source in hosts[:2]}, "the first two were masters"
    verifier = verifier_from_options(vips=",".join(setting.vips), password_file=str(made.secret))
    with capture.open("rb") as file:
        records = list(file_records(str(capture), file, verifier=verifier, complain=pytest.fail))
    assert {(record.checksum_ok, record.authentic, record.reason) for record in records} == {(True, True, None)}


def check_announcements(made: Trio, capture: Path) -> None:
    """See to it that each unsolicited neighbour advertisement is by the book (RFC 4861, sections 4.4 and 7.2.6)."""
    fields = ("eth.src", "eth.dst", "ipv6.dst", "ipv6.hlim", "icmpv6.nd.na.flag.o", "icmpv6.nd.na.flag.r",
              "icmpv6.opt.linkaddr", "icmpv6.checksum.status")  # fmt: skip
    for vip in made.setting.vips:
        if ":" in vip:
            which = f"icmpv6.type == 136 && icmpv6.nd.na.target_address == {vip} && icmpv6.nd.na.flag.s == 0"
            macs = [made.lan.nodes[number].mac for number in (0, 1)]
            wanted = {(mac, "33:33:00:00:00:01", "ff02::1", "255", "1", "0", mac, "1") for mac in macs}
            assert told(capture, which, fields) >= wanted


def address_of(node: Node) -> str:
    """The link-local address that the node's kernel has given itself."""
    printed = node.run(["ip", "-6", "-o", "address", "show", "dev", "eth0", "scope", "link"]).stdout.split()
    return printed[printed.index("inet6") + 1].partition("/")[0]
