import socket
import struct
import time
from ipaddress import IPv4Address, IPv6Address

import pytest

from sidecar.demo.answers import Answers
from sidecar.demo.probe import AllQuestion, ArpQuestion, EchoQuestion, Prober, echo_frame, read_echo_reply
from sidecar.protocol.packet import internet_checksum

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


VIP6 = IPv6Address("fd77::100").packed
CLIENT, CLIENT6 = IPv4Address("10.77.0.200").packed, IPv6Address("fd77::200").packed
ALL = AllQuestion(target=VIP, source=CLIENT, mac=OURS, nodes={61: "node-1"})
ALL6 = AllQuestion(target=VIP6, source=CLIENT6, mac=OURS, nodes={61: "node-1"})


def reply_to(question: AllQuestion, number: int, *, ttl: int = 61) -> bytes:
    """The node's answer: source and target change places, and the message's type is that of a reply."""
    sent = bytearray(echo_frame(question.target, question.source, number=number, ethernet=OURS + NODE_1))
    sent[22 if len(question.target) == 4 else 21] = ttl
    start = 34 if len(question.target) == 4 else 54
    sent[start] = 0 if len(question.target) == 4 else 129
    return bytes(sent)


@pytest.mark.parametrize(("question", "everyone"), [(ALL, "ffffffffffff"), (ALL6, "333300000001")])
def test_a_question_to_all_reaches_every_host(question: AllQuestion, everyone: str) -> None:
    assert question.ask(7)[:12] == bytes.fromhex(everyone) + OURS


def test_the_checksums_of_an_echo_frame_are_right() -> None:
    frame = ALL.ask(0xDEADBEEF)
    assert internet_checksum(frame[14:34]) == internet_checksum(frame[34:]) == 0
    assert frame[38:] == b"\xde\xad\xbe\xef"
    frame = ALL6.ask(0xDEADBEEF)
    assert internet_checksum(frame[22:54] + struct.pack("!II", 8, 58) + frame[54:]) == 0


@pytest.mark.parametrize("question", [ALL, ALL6])
def test_an_answer_to_all_tells_its_probe_and_its_node(question: AllQuestion) -> None:
    assert question.period == 1 << 32
    assert question.read(reply_to(question, 0xCAFE0001)) == (0xCAFE0001, "node-1")
    assert question.read(reply_to(question, 3, ttl=99)) == (3, "ttl 99")


@pytest.mark.parametrize("question", [ALL, ALL6])
def test_other_frames_are_no_answer_to_all(question: AllQuestion) -> None:
    reply = reply_to(question, 1)
    assert question.read(question.ask(1)) is None
    assert question.read(reply[:-1]) is None
    assert question.read(b"") is None
    assert read_echo_reply(reply, question.source) is None
    other = ALL6 if question is ALL else ALL
    assert other.read(reply) is None
