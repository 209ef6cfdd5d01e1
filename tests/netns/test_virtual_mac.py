"""Virtual MAC on real kernels: a client learns it once, and never again whoever is master."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from sidecar.capture.files import frames
from sidecar.demo.lan import Lan
from sidecar.demo.node import SidecarNode
from sidecar.demo.probe import ETH_P_ARP, packet_socket, read_echo_reply
from sidecar.net.inquiry import owner, question
from tests.netns.peers import role, until

VIP, VIP6 = "10.77.0.100", "fd77::100"
MAC = "00:00:5e:00:01:2a"
ECHO_REPLY = 129
STRICT = ("net.ipv4.conf.all.rp_filter=1", "net.ipv4.conf.eth0.rp_filter=1")
"""What distributions set; with it, a packet must come from where the answer goes."""


class Two:
    """Two nodes with the virtual MAC and a client that is told where the VIPs are, and never asks."""

    def __init__(self, lan: Lan, directory: Path) -> None:
        self.lan = lan
        (directory / "password").write_text("of our own")
        common = {
            "CARP_VHID": "42",
            "CARP_VIPS": f"{VIP},{VIP6}",
            "CARP_PASSWORD_FILE": str(directory / "password"),
            "CARP_MAC": "virtual",
        }
        skews = ({"CARP_ADVSKEW": "0"}, {"CARP_ADVSKEW": "20"})
        self._settings = common
        self.first, self.second = (
            SidecarNode(node, directory, common | skew) for node, skew in zip(lan.nodes, skews, strict=False)
        )

    def answered_by(self, sidecar: SidecarNode) -> bool:
        """Whether the client's ping of both VIPs is answered by that node alone: each has its TTL."""
        for vip in (VIP, VIP6):
            said = self.lan.client.run(["ping", "-n", "-c", "1", "-W", "1", vip], check=False).stdout
            if f" ttl={sidecar.node.ttl} " not in said:
                return False
        return True

    def shows(self, sidecar: SidecarNode) -> bool:
        """Whether the virtual MAC is on that node and up."""
        return ",UP" in sidecar.node.run(["ip", "link", "show", "carp42"], check=False).stdout

    def neighbours(self) -> dict[str, str]:
        """What the client has learnt."""
        told = self.lan.client.run(["ip", "neigh", "show", "dev", "eth0"]).stdout
        return dict(re.findall(r"^(\S+) lladdr (\S+)", told, re.MULTILINE))

    def doctor(self, sidecar: SidecarNode) -> list[str]:
        """What the doctor of that node finds to say of virtual MACs."""
        settings = {**self._settings, "CARP_RUNTIME_DIR": str(sidecar.runtime_dir), "NODE_NAME": sidecar.node.name}
        command = [sys.executable, "-P", "-m", "sidecar", "doctor", "--json", "--seconds", "0.1"]
        with sidecar.node.popen(command, env={**os.environ, **settings}, stdout=subprocess.PIPE) as process:
            told = json.load(process.stdout)
        return [each["text"] for each in told["findings"] if each["check"] == "virtual MAC"]

    def asked_and_answered(self) -> bool:
        """Let the client forget all and ask anew, for the VIPs and the nodes' own addresses: the first has the VIPs."""
        asked = VIP, VIP6, *(node.address for node in self.lan.nodes[:2])
        self.lan.client.run(["ip", "neigh", "flush", "dev", "eth0"])
        for address in asked:
            self.lan.client.run(["ping", "-n", "-c", "1", "-W", "1", address], check=False)
        return self.neighbours().keys() >= set(asked) and self.answered_by(self.first)


@pytest.fixture
def two(lan: Lan, tmp_path: Path) -> Iterator[Two]:
    for node in lan.nodes:
        for setting in STRICT:
            node.run(["sysctl", "-qw", setting])
    made = Two(lan, tmp_path)
    try:
        yield made
    except BaseException as error:
        error.add_note(f"--- first:\n{made.first.log}\n--- second:\n{made.second.log}")
        raise
    finally:
        made.first.kill_all()
        made.second.kill_all()


def test_the_vips_stay_where_the_client_learnt_them_whatever_happens(two: Two, tmp_path: Path) -> None:
    before = two.first.node.run(["ip", "-br", "address"]).stdout, two.first.node.run(["nft", "list", "ruleset"]).stdout
    with two.lan.capture(tmp_path / "lan.pcap"):
        two.first.start()
        until(lambda: role(two.first) == "master", "the first is master")
        two.second.start()
        until(lambda: role(two.second) == "backup", "the second is backup")
        nodes = two.lan.nodes[:2]
        until(two.asked_and_answered, "the client has learnt where all are, and is answered by the first")
        learnt = two.neighbours()
        assert [learnt[each] for each in (VIP, VIP6)] == [MAC, MAC]
        assert [learnt[node.address] for node in nodes] == [node.mac for node in nodes]
        assert (two.shows(two.first), two.shows(two.second)) == (True, False)

        # From now on the client knows where the VIPs are for good, and asks and learns no more.
        for vip in (VIP, VIP6):
            two.lan.client.run(["ip", "neigh", "replace", vip, "lladdr", MAC, "nud", "permanent", "dev", "eth0"])
        assert two.first.terminate() == 0
        until(lambda: two.answered_by(two.second), "the second answers after a planned stop")
        assert (two.first.node.run(["ip", "-br", "address"]).stdout, before[1]) == before
        assert two.first.node.run(["nft", "list", "ruleset"]).stdout == before[1]

        two.first.start()
        until(lambda: role(two.first) == "backup", "the first is backup")
        two.second.kill_all()
        until(lambda: two.answered_by(two.first), "the first answers after a crash")
        until(lambda: VIP not in two.second.node.run(["ip", "address"]).stdout, "the lease of the killed one ends")
        assert "carp-sidecar" in two.second.node.run(["ip", "-d", "link", "show", "carp42"]).stdout
        assert ",UP" in two.second.node.run(["ip", "link", "show", "carp42"]).stdout
        nobody_is_there(two, tmp_path / "left.pcap")
        (finding,) = two.doctor(two.second)
        assert finding.startswith("carp42 is what a sidecar left that was killed as a whole")
        assert two.doctor(two.first) == []

        two.second.start()
        until(lambda: role(two.second) == "backup", "the second is backup again")
        assert not two.shows(two.second)  # what was left is its own again
        two.lan.client.run(["ip", "neigh", "del", VIP, "dev", "eth0"])
        until(two.asked_and_answered, "the client learns it anew, and is answered by the first")

    nobody_said_otherwise(tmp_path / "lan.pcap", {node.mac for node in two.lan.nodes})


def test_a_macvlan_that_somebody_sets_down_or_up_is_put_right_and_the_first_is_reported(two: Two) -> None:
    two.first.start()
    until(lambda: role(two.first) == "master", "the first is master")
    two.second.start()
    until(lambda: role(two.second) == "backup", "the second is backup")
    until(two.asked_and_answered, "the client is answered by the first")
    before = two.first.group()
    for number in (1, 2):
        two.first.node.run(["ip", "link", "set", "carp42", "down"])
        until(lambda: two.shows(two.first), "it is up again")
        until(lambda n=number: two.first.group().disturbances == n, "it is counted once")  # type: ignore[misc]
        until(lambda n=number: two.first.group().announcements > before.announcements + n - 1, "it is announced")  # type: ignore[misc]
        until(lambda: two.answered_by(two.first), "both VIPs answer again")
    after = two.first.group()
    assert (after.role, after.transitions) == ("master", before.transitions)
    assert (after.disturbances, after.disturbance) == (2, "somebody set the virtual MAC down on carp42")
    assert "somebody set the virtual MAC down on carp42; it is put back and announced again" in two.first.log

    two.second.node.run(["ip", "link", "set", "carp42", "up"])
    until(lambda: not two.shows(two.second), "it is hidden on a backup")
    assert "carp42, the virtual MAC of group default, was up without its VIPs: it is set down again" in two.second.log
    assert two.second.group().disturbances == 0
    until(lambda: two.answered_by(two.first), "and the first answers as before")


def nobody_is_there(two: Two, path: Path) -> None:
    """See that what a killed sidecar leaves is mute: to whoever asks for the VIPs, or speaks to the virtual MAC."""
    node, client, asked = two.second.node, two.lan.client, [ip_address(vip) for vip in (VIP, VIP6)]
    two.lan.cut(two.first.node)  # only the killed one can answer
    with two.lan.capture(path), client.open_socket(lambda: packet_socket(ETH_P_ARP)) as wire:
        for _ in range(20):
            for vip in asked:
                wire.send(question(mac=_bytes(client.mac), target=vip))
                client.run(["ping", "-n", "-c", "1", "-W", "0.05", str(vip)], check=False)  # to the virtual MAC
    two.lan.heal(two.first.node)
    joined = node.run(["ip", "maddress", "show", "dev", "carp42"]).stdout
    assert "ff02::1:ff00:100" not in joined, "it listens for questions about the VIP"
    with path.open("rb") as file:
        seen = [captured.data for captured in frames(file)]
    to_it = [frame for frame in seen if frame[:6] == _bytes(MAC)]
    assert {frame[12:14] for frame in to_it} == {b"\x08\x00", b"\x86\xdd"}, "it was spoken to"
    assert [frame for frame in seen if frame[6:12] == _bytes(MAC)] == [], "a switch learns nothing"
    assert [owner(frame, vip) for frame in seen for vip in asked if owner(frame, vip)] == [], "it has no VIP"
    assert [frame for frame in seen for vip in asked if read_echo_reply(frame, vip.packed)] == [], "nobody echoes"


def _bytes(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def nobody_said_otherwise(path: Path, nics: set[str]) -> None:
    """See that no ARP and no advert of a master went out that would have a VIP at a NIC's own MAC."""
    vip, said, adverts, icmp6 = socket.inet_aton(VIP), set(), set(), set()
    with path.open("rb") as file:
        for captured in frames(file):
            frame = captured.data
            source, ethertype = frame[6:12].hex(":"), frame[12:14]
            if ethertype == b"\x08\x06" and frame[28:32] == vip:
                said.add((source, frame[22:28].hex(":")))
            if ethertype == b"\x08\x00" and frame[23] == 112:
                adverts.add((source, frame[36] == frame[39] == 255))
            if source == MAC and ethertype == b"\x86\xdd":
                icmp6.add(frame[54] if frame[20] == 58 else frame[20])  # a type, or another header before it
    assert said == {(MAC, MAC)}
    # Neighbour solicitations and advertisements, and nothing that its kernel says by itself when a VIP comes or goes.
    assert icmp6 <= {ECHO_REPLY, 135, 136}
    assert {source for source, bow_out in adverts if not bow_out} == {MAC}
    assert {source for source, bow_out in adverts if bow_out} <= nics


def test_a_nic_that_can_have_no_other_mac_is_a_mistake_in_the_settings_that_names_the_remedy(two: Two) -> None:
    node = two.first.node
    node.run(["ip", "link", "add", "br-own", "type", "bridge"])
    node.run(["ip", "link", "set", "eth0", "master", "br-own"])
    two.first.start()
    assert two.first.wait() == 2
    (line,) = [line for line in two.first.log.splitlines() if "CARP_MAC" in line]
    assert line.endswith(
        "CARP_MAC: eth0 cannot have a virtual MAC: it is a port of a bridge, a bond or the like; use CARP_MAC=interface"
    )
    node.run(["ip", "link", "set", "eth0", "nomaster"])
