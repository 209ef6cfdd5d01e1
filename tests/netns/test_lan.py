"""The LAN that the demo and these tests stand on, and what looks at it: probers, capture, forwarder."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from sidecar.capture.files import frames
from sidecar.demo.apiserver import VERSION, ApiServer
from sidecar.demo.forward import ApiForwarder
from sidecar.demo.lan import NETNS, Lan, LanError, Node
from sidecar.demo.probe import ETH_P_ARP, Prober, all_prober, arp_prober, echo_prober, packet_socket
from sidecar.net.neighbor import announcements
from tests.netns.peers import until

VIP = "10.77.0.100"


def reaches(lan: Lan, address: str) -> bool:
    return lan.client.run(["ping", "-c", "1", "-W", "1", address], check=False).returncode == 0


def test_every_node_has_its_addresses_its_mac_and_its_ttl(lan: Lan) -> None:
    for number, node in enumerate(lan.nodes, start=1):
        assert lan.node(f"node-{number}") == node
        assert (node.address, node.address6) == (f"10.77.0.{number}", f"fd77::{number}")
        [link] = json.loads(node.run(["ip", "-j", "address", "show", "eth0"]).stdout)
        assert (link["address"], link["operstate"]) == (node.mac, "UP")
        found = {(each["local"], each["prefixlen"]) for each in link["addr_info"]}
        assert {(node.address, 24), (node.address6, 64)} <= found
        assert f"ttl={60 + number} " in lan.client.run(["ping", "-c", "1", "-W", "5", node.address]).stdout
        assert f"ttl={60 + number} " in lan.client.run(["ping", "-c", "1", "-W", "5", node.address6]).stdout


def test_a_node_that_is_cut_off_keeps_its_carrier(lan: Lan) -> None:
    first, second, _ = lan.nodes
    lan.cut(first)
    assert "LOWER_UP" in first.run(["ip", "link", "show", "eth0"]).stdout
    assert not reaches(lan, first.address)
    assert reaches(lan, second.address)
    lan.heal(first)
    until(lambda: reaches(lan, first.address), "the node is back on the LAN")


def test_a_pulled_cable_takes_the_carrier(lan: Lan) -> None:
    first = lan.nodes[0]
    lan.link_down(first)
    until(lambda: "NO-CARRIER" in first.run(["ip", "link", "show", "eth0"]).stdout, "the carrier is lost")
    assert not reaches(lan, first.address)
    lan.link_up(first)
    assert "LOWER_UP" in first.run(["ip", "link", "show", "eth0"]).stdout
    until(lambda: reaches(lan, first.address), "the node is back on the LAN")


def test_an_interface_is_deleted_and_made_anew(lan: Lan) -> None:
    first = lan.nodes[0]
    lan.remove_interface(first)
    assert first.run(["ip", "link", "show", "eth0"], check=False).returncode == 1
    assert not reaches(lan, first.address)
    lan.make_interface(first)
    [link] = json.loads(first.run(["ip", "-j", "address", "show", "eth0"]).stdout)
    assert link["address"] == first.mac
    until(lambda: reaches(lan, first.address) and reaches(lan, first.address6), "the node is back on the LAN")


def multicast_sender(node: Node) -> socket.socket:
    def make() -> socket.socket:
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(node.address))
        return sender

    return node.open_socket(make)


def test_a_capture_has_each_frame_once_from_the_first_to_the_last(lan: Lan, tmp_path: Path) -> None:
    sent = [f"{node.name} says {number}".encode() for number in range(50) for node in lan.nodes]
    with contextlib.ExitStack() as stack:
        senders = [stack.enter_context(multicast_sender(node)) for node in lan.nodes]
        with lan.capture(tmp_path / "lan.pcap"):
            for index, text in enumerate(sent):
                senders[index % len(senders)].sendto(text, ("224.0.0.18", 5000))
    with (tmp_path / "lan.pcap").open("rb") as file:
        captured = [frame.data[42:] for frame in frames(file)]
    assert [text for text in captured if b" says " in text] == sent


def test_a_capture_has_what_one_node_sends_another_alone(lan: Lan, tmp_path: Path) -> None:
    assert reaches(lan, lan.nodes[0].address)
    with lan.capture(tmp_path / "lan.pcap"):
        lan.client.run(["ping", "-c", "1", "-W", "5", "-p", "c0ffee", lan.nodes[0].address])
    with (tmp_path / "lan.pcap").open("rb") as file:
        assert sum(b"\xc0\xff\xee\xc0\xff\xee" in frame.data for frame in frames(file)) == 2


def test_a_socket_is_made_on_the_node_and_nothing_else_goes_there(lan: Lan) -> None:
    before = Path("/proc/self/ns/net").readlink()
    node = lan.nodes[1]
    with lan.open_socket(node, lambda: socket.create_server((node.address, 0))) as server:
        assert server.getsockname()[0] == node.address  # an address that only the node has
        with pytest.raises(OSError, match="assign"):
            socket.create_server((node.address, 0))
    assert Path("/proc/self/ns/net").readlink() == before


def test_what_fails_inside_a_namespace_fails_outside_too(lan: Lan) -> None:
    def fail() -> socket.socket:
        raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        lan.nodes[0].open_socket(fail)


@pytest.mark.usefixtures("real_kernel")
def test_leaving_ends_what_runs_in_it_and_removes_all() -> None:
    with Lan(nodes=1, prefix="carpleave") as lan:
        process = lan.nodes[0].popen(["sleep", "600"])
        assert list(NETNS.glob(f"carpleave-{os.getpid()}-*"))
    assert process.wait(timeout=30) == -signal.SIGKILL
    assert not list(NETNS.glob(f"carpleave-{os.getpid()}-*"))


ABANDON = """
import sys, time
from sidecar.demo.lan import Lan
lan = Lan(nodes=1, prefix="carpsweep")
lan.__enter__()
print(lan.nodes[0].netns, lan.nodes[0].popen(["sleep", "600"]).pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def abandoned(real_kernel: None) -> Iterator[tuple[subprocess.Popen[str], str, int]]:  # noqa: ARG001 - comes first
    """Another process with a LAN, the name of a namespace of it, and the pid of a process in there."""
    process = subprocess.Popen([sys.executable, "-c", ABANDON], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        netns, pid = process.stdout.readline().split()
        yield process, netns, int(pid)
    process.kill()
    process.wait()
    with Lan(nodes=1, prefix="carpsweep"):
        pass


def test_a_lan_of_a_killed_process_is_swept_by_the_next_and_one_in_use_is_not(
    abandoned: tuple[subprocess.Popen[str], str, int],
) -> None:
    process, netns, inside = abandoned
    with Lan(nodes=1, prefix="carpsweep"):
        assert (NETNS / netns).exists()
        assert Path(f"/proc/{inside}").exists()
    process.kill()
    process.wait()
    with Lan(nodes=1, prefix="carpsweep"):
        assert not (NETNS / netns).exists()
        until(lambda: not runs(inside), "what ran in it is ended")


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.usefixtures("real_kernel")
def test_a_step_that_fails_is_named_and_leaves_nothing() -> None:
    start = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
    room = os.pathconf("/run", "PC_NAME_MAX") - len(f"-{os.getpid()}-{start}-abcd-node-9")
    prefix = "carpfail".ljust(room, "x")  # a name for all but node-10
    with pytest.raises(LanError, match=r"can't make .*-node-10: File name too long"), Lan(nodes=10, prefix=prefix):
        pass
    assert not list(NETNS.glob("carpfail*"))


def test_the_probers_see_who_answers_the_outage_and_two_at_once(lan: Lan) -> None:
    """Plain `ip address` plays the sidecar: node-1, nobody, node-2, then node-3 beside it."""
    first, second, third = lan.nodes
    with arp_prober(lan, VIP) as arp, echo_prober(lan, VIP) as echo:
        bind(first)
        until(lambda: last(arp) == last(echo) == "node-1", "node-1 answers")
        gone = time.monotonic()
        first.run(["ip", "address", "delete", f"{VIP}/32", "dev", "eth0"])
        until(lambda: all(prober.answers().outages(since=gone) for prober in (arp, echo)), "an outage is seen")
        bind(second)
        # The client learns of the move as it does from a sidecar: by a gratuitous ARP.
        until(lambda: announce(second) or last(arp) == last(echo) == "node-2", "node-2 answers", every=0.1)
        back = time.monotonic()
        assert arp.answers().overlap() == 0.0
        bind(third)
        until(lambda: arp.answers().overlap(since=back) > 0.0, "two are seen to answer at once")
        assert arp.answers().answerers(back, time.monotonic()) == {"node-2", "node-3"}
    for prober in (arp, echo):
        [outage] = prober.answers().outages(since=gone, until=back)
        assert gone - 0.1 < outage.start < outage.end < back
        assert outage.lost > 0
        assert prober.answers().longest_gap(gone, back) >= outage.seconds * 0.9


def bind(node: Node) -> None:
    node.run(["ip", "address", "add", f"{VIP}/32", "dev", "eth0"])


def announce(node: Node) -> None:
    with node.open_socket(lambda: packet_socket(ETH_P_ARP)) as sock:
        for frame in announcements(mac=bytes.fromhex(node.mac.replace(":", "")), address=IPv4Address(VIP)):
            sock.send(frame)


def last(prober: Prober) -> str | None:
    latest = prober.latest()
    return latest.node if latest else None


@pytest.mark.parametrize("vip", [VIP, "fd77::100"])
def test_a_probe_to_all_is_answered_by_each_that_has_the_address(lan: Lan, vip: str) -> None:
    host = "32" if vip == VIP else "128 nodad"
    with all_prober(lan, vip) as prober:
        for number, node in enumerate(lan.nodes, start=1):
            node.run(["ip", "address", "add", *f"{vip}/{host}".split(), "dev", "eth0"])
            answering = {f"node-{each}" for each in range(1, number + 1)}
            until(lambda wanted=answering: last_probe(prober) == wanted, f"{answering} answer the same probe")


def last_probe(prober: Prober) -> set[str]:
    """Who answered the last probe that anybody answered."""
    received = prober.answers().received
    return {answer.node for answer in received if answer.probe == received[-1].probe}


ASK = """
import json, sys, urllib.request
print(json.load(urllib.request.urlopen("http://127.0.0.1:6443/version", timeout=20))["gitVersion"])
"""


def test_a_node_reaches_a_server_outside_through_its_door_and_only_while_it_is_open(lan: Lan) -> None:
    ask = [sys.executable, "-c", ASK]
    with (
        ApiServer() as api,
        ApiForwarder(lan.nodes[0], 6443, target_host="127.0.0.1", target_port=api.port) as door,
        ApiForwarder(lan.nodes[1], 6443, target_host="127.0.0.1", target_port=api.port),
    ):
        assert lan.nodes[0].run(ask).stdout == f"{VERSION}\n"
        door.cut()
        assert "refused" in lan.nodes[0].run(ask, check=False).stderr
        assert lan.nodes[1].run(ask).stdout == f"{VERSION}\n"
        door.restore()
        assert lan.nodes[0].run(ask).stdout == f"{VERSION}\n"
        assert "refused" in lan.nodes[2].run(ask, check=False).stderr
