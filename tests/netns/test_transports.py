"""How adverts travel by unicast; by broadcast and to another multicast group they do in the matrix, with ucarp."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path

import pytest

from sidecar.demo.lan import Lan
from sidecar.demo.node import SidecarNode
from tests.netns.peers import role, status, until

VIP = "10.77.0.100"
TSHARK = ("tshark", "-n", "-d", "ip.proto==112,carp")


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, str]:
    secret = tmp_path / "password"
    secret.write_text("transports")
    return {"CARP_VHID": "42", "CARP_VIPS": VIP, "CARP_PASSWORD_FILE": str(secret), "CARP_REPLAY": "compat"}


def envelopes(capture: Path) -> set[tuple[str, ...]]:
    """What tshark says of the CARP packets: Ethernet destination, IP source and destination, TTL, checksum status."""
    fields = ("eth.dst", "ip.src", "ip.dst", "ip.ttl", "carp.checksum.status")
    words = [word for field in fields for word in ("-e", field)]
    printed = subprocess.run(
        [*TSHARK, "-r", capture, "-Y", "carp && !icmp", "-T", "fields", *words],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return {tuple(line.split("\t")) for line in printed.splitlines()}


def test_unicast_among_three_nodes(lan: Lan, tmp_path: Path, settings: dict[str, str]) -> None:
    # One list for all: each skips its own address.
    settings |= {"CARP_TRANSPORT": "unicast", "CARP_PEERS": ",".join(node.address for node in lan.nodes)}
    capture = tmp_path / "unicast.pcap"
    with contextlib.ExitStack() as stack, lan.capture(capture):
        first, second, third = (
            SidecarNode(node, tmp_path, settings | {"CARP_ADVSKEW": str(50 * number)})
            for number, node in enumerate(lan.nodes)
        )
        stack.enter_context(first)
        until(lambda: role(first) == "master", "the lowest skew is master")
        for other in (second, third):
            stack.enter_context(other)
        until(lambda: all((s := status(n)) and s.adverts_received > 3 for n in (second, third)), "both others hear it")
        assert (role(second), role(third)) == ("backup", "backup")
        first.kill_all()
        until(lambda: role(second) == "master", "the next one takes over")
        until(lambda: (s := status(third)) and s.master == lan.nodes[1].address, "the third follows it")
        assert second.terminate() == 0
        until(lambda: role(third) == "master", "a goodbye by unicast is heard too")
        assert third.group().reason == "bow-out"
        assert third.group().drops == {}
    seen = envelopes(capture)
    macs = {node.address: node.mac for node in lan.nodes}
    assert {(eth, dst) for eth, _, dst, _, _ in seen} <= {(macs[address], address) for address in macs}
    assert {(ttl, checksum) for *_, ttl, checksum in seen} == {("255", "1")}
    unreachable = subprocess.run(
        ["tshark", "-r", capture, "-Y", "icmp.type==3"], check=True, capture_output=True, text=True
    ).stdout
    # A node whose sidecar is dead says so; the living ones must not.
    assert all(lan.nodes[0].address in line or lan.nodes[1].address in line for line in unreachable.splitlines())


def test_a_multicast_advert_is_not_for_a_unicast_group(lan: Lan, tmp_path: Path, settings: dict[str, str]) -> None:
    unicast = settings | {"CARP_TRANSPORT": "unicast", "CARP_PEERS": lan.nodes[1].address}
    with SidecarNode(lan.nodes[1], tmp_path, settings) as other:
        until(lambda: role(other) == "master", "it advertises")  # else it may hear us first, and stay silent
        with SidecarNode(lan.nodes[0], tmp_path, unicast) as ours:
            until(lambda: (s := status(ours)) and s.drops.get("wrong-destination", 0) > 0, "it is counted")
            assert "sent to 224.0.0.18" in ours.log
