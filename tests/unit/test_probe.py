import socket
import struct
import time
from ipaddress import IPv4Address

import pytest

from sidecar.demo.answers import Answers
from sidecar.demo.probe import ArpQuestion, EchoQuestion, Prober

VIP = IPv4Address("10.77.0.100").packed
OURS = bytes.fromhex("0200000000c8")
NODE_1 = bytes.fromhex("020000000001")
ASKERS = tuple(IPv4Address(f"10.77.0.{number}").packed for number in (128, 129, 130))
ARP = ArpQuestion(target=VIP, mac=OURS, askers=ASKERS, nodes={NODE_1: "node-1"})
ECHO = EchoQuestion(target=VIP, identifier=0xBEEF, nodes={61: "node-1"})


def arp_reply(asker: bytes, *, mac: bytes = NODE_1, target: bytes = VIP, operation: bytes = b"\x00\x02") -> bytes:
    arp = b"\x00\x01\x08\x00\x06\x04" + operation + mac + target + OURS + asker
    return OURS + mac + b"\x08\x06" + arp


def test_an_arp_question_is_a_broadcast_request_for_the_address() -> None:
    frame = ARP.ask(1)
    assert frame[:14] == b"\xff" * 6 + OURS + b"\x08\x06"
    assert frame[14:42] == b"\x00\x01\x08\x00\x06\x04\x00\x01" + OURS + ASKERS[1] + bytes(6) + VIP
    assert len(frame) == 60


@pytest.mark.parametrize("number", [0, 1, 2])
def test_an_arp_reply_tells_its_probe_and_its_node(number: int) -> None:
    assert ARP.period == 3
    assert ARP.read(arp_reply(ASKERS[number])) == (number, "node-1")


def test_an_unknown_mac_is_named_as_it_is() -> None:
    stranger = bytes.fromhex("00005e00012a")
    assert ARP.read(arp_reply(ASKERS[0], mac=stranger)) == (0, "00:00:5e:00:01:2a")


@pytest.mark.parametrize(
    "frame",
    [
        arp_reply(ASKERS[0], operation=b"\x00\x01"),
        arp_reply(ASKERS[0], target=IPv4Address("10.77.0.1").packed),
        arp_reply(IPv4Address("10.77.0.200").packed),
        arp_reply(ASKERS[0])[:41],
        b"",
    ],
    ids=["request", "another address", "another asker", "cut short", "empty"],
)
def test_other_frames_are_no_arp_answer(frame: bytes) -> None:
    assert ARP.read(frame) is None


def echo_reply(*, kind: int = 0, identifier: int = 0xBEEF, source: bytes = VIP, ttl: int = 61) -> bytes:
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28, 0, 0, ttl, 1, 0, source, IPv4Address("10.77.0.200").packed)
    return header + struct.pack("!BBHHH", kind, 0, 0, identifier, 4660)


def test_an_echo_question_is_a_request_with_a_right_checksum() -> None:
    message = ECHO.ask(4660)
    assert message[:2] == b"\x08\x00"
    assert struct.unpack("!HH", message[4:]) == (0xBEEF, 4660)
    words = sum(struct.unpack("!4H", message))
    assert (words & 0xFFFF) + (words >> 16) == 0xFFFF  # RFC 1071: a right sum comes out as all ones


def test_an_echo_reply_tells_its_probe_and_its_node() -> None:
    assert ECHO.period == 65536
    assert ECHO.read(echo_reply()) == (4660, "node-1")
    assert ECHO.read(echo_reply(ttl=64)) == (4660, "ttl 64")


@pytest.mark.parametrize(
    "packet",
    [
        echo_reply(kind=3),
        echo_reply(identifier=1),
        echo_reply(source=IPv4Address("10.77.0.1").packed),
        echo_reply()[:27],
    ],
    ids=["unreachable", "another identifier", "another address", "cut short"],
)
def test_other_packets_are_no_echo_answer(packet: bytes) -> None:
    assert ECHO.read(packet) is None


class Numbers:
    """Probes and answers of one byte, so that numbers repeat after four."""

    period = 4

    def ask(self, number: int) -> bytes:
        return bytes((number,))

    def read(self, packet: bytes) -> tuple[int, str] | None:
        return (packet[0], "peer") if packet != b"x" else None


def prober_and_peer() -> tuple[Prober, socket.socket]:
    """A prober on loopback, and the socket that it asks."""
    peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    peer.bind(("127.0.0.1", 0))
    peer.settimeout(10.0)
    ours = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    return Prober(ours, Numbers(), address=peer.getsockname(), interval=0.002), peer


def seen(prober: Prober, count: int) -> Answers:
    deadline = time.monotonic() + 10.0
    while len(prober.answers().received) < count:
        assert time.monotonic() < deadline, "the prober saw too little"
        time.sleep(0.001)
    return prober.answers()


def test_the_prober_notes_which_probe_was_answered_and_when() -> None:
    prober, peer = prober_and_peer()
    with peer, prober:
        for _ in range(10):
            question, asker = peer.recvfrom(16)
            peer.sendto(question, asker)
        answers = seen(prober, 10)
        assert prober.latest() == answers.received[-1]
    assert len({answer.probe for answer in answers.received}) == 10
    for answer in answers.received:
        assert answer.node == "peer"
        # Wide: two clocks are read one after the other on a machine that may pause in between.
        assert -0.5 < answer.at - answers.sent[answer.probe] < 10.0
    assert list(answers.sent) == sorted(answers.sent)


def test_the_prober_passes_over_what_it_does_not_know() -> None:
    prober, peer = prober_and_peer()
    with peer, prober:
        question, asker = peer.recvfrom(16)
        peer.sendto(b"x", asker)
        peer.sendto(question, asker)
        assert len(seen(prober, 1).received) == 1


def test_a_prober_without_answers_sees_an_outage_and_stops_all_the_same() -> None:
    prober, peer = prober_and_peer()
    with peer, prober:
        assert prober.latest() is None
        deadline = time.monotonic() + 10.0
        while not prober.answers().outages():
            assert time.monotonic() < deadline, "no outage seen"
            time.sleep(0.01)
    count = len(prober.answers().sent)
    assert count > 0
    assert len(prober.answers().sent) == count
