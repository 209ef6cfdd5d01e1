"""What a group asks on the wire, and what it makes of the answers."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from ipaddress import IPv4Address, ip_address

import pytest

from sidecar.engine.asking import REPORT_EVERY, REPORTS_AT_MOST, Asking
from sidecar.engine.path import Port
from sidecar.net.inquiry import Answer, question
from sidecar.protocol.events import Occupied

MAC, VIRTUAL, THEIRS = (bytes.fromhex(each) for each in ("020000000011", "00005e00012a", "020000000099"))
OTHER_NIC = bytes.fromhex("020000000022")
VIP, PEER, GATEWAY = (IPv4Address(each) for each in ("10.0.0.200", "10.0.0.12", "10.0.0.1"))


class Bench:
    def __init__(self, *, hears: bool = True) -> None:
        near, self.wire = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        for end in (near, self.wire):
            end.setblocking(False)
        self.port = Port("eth0", MAC, True, {4: near})
        self.port.ears, self.port.gateways = (self.wire,) if hears else (), (GATEWAY,)
        self.port.own_macs = frozenset((MAC, OTHER_NIC))
        self.asking = Asking("web", self.port, (VIP,))

    def ask(self, now: float) -> list[bytes]:
        self.asking.ask(now, mac=VIRTUAL, peers=lambda: [PEER])
        sent = []
        while True:
            try:
                sent.append(self.wire.recv(4096))
            except BlockingIOError:
                return sent

    def hear(self, mac: bytes = THEIRS, now: float = 0.0) -> Occupied | None:
        answer = Answer(address=VIP, mac=mac, told=ip_address("0.0.0.0"), to=MAC)
        return self.asking.heard(answer, now, mac=VIRTUAL)

    def follow(self, *, unproven: bool = False, master: bool = False) -> None:
        self.asking.follow(unproven=unproven, master=master, interval=1.0, now=0.0)


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.port.wires[4].close()
    made.wire.close()


def test_a_node_that_knows_nothing_yet_asks_from_its_own_mac(bench: Bench) -> None:
    assert bench.ask(0.0) == []
    bench.follow(unproven=True)
    assert bench.ask(0.0) == [question(mac=MAC, target=VIP)]
    assert bench.asking.deadline == 1.0
    assert bench.hear() == Occupied(by="10.0.0.200 is at 02:00:00:00:00:99", seconds=2.5)
    assert bench.hear(OTHER_NIC) is None
    bench.follow(unproven=False)
    assert bench.asking.deadline == float("inf")
    assert bench.hear() is None


def test_after_an_announcement_neighbours_are_asked_for_the_way_to_the_mac_that_was_announced(bench: Bench) -> None:
    bench.asking.announced(0.0)
    assert bench.ask(0.0) == [
        question(mac=MAC, target=VIP),
        question(mac=VIRTUAL, target=GATEWAY, sender=VIP),
        question(mac=VIRTUAL, target=PEER, sender=VIP),
    ]
    assert bench.asking.proof == "unknown"
    bench.asking.heard(Answer(address=PEER, mac=THEIRS, told=VIP, to=VIRTUAL), 0.0, mac=VIRTUAL)
    assert bench.asking.proof == "confirmed"
    bench.follow(master=False)
    assert bench.asking.proof is None


def test_a_contestant_is_named_and_reported_once_in_a_while(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    for now in (0.0, 10.0, REPORT_EVERY):
        bench.asking.announced(now)
        assert bench.hear(now=now) is None
    assert (bench.asking.proof, bench.asking.contestants) == ("contested", ("10.0.0.200 at 02:00:00:00:00:99",))
    assert len(caplog.messages) == 2
    assert caplog.messages[0].startswith(
        "10.0.0.200 is contested: 02:00:00:00:00:99 answers for it too; find that host"
    )


def test_made_up_macs_do_not_fill_the_log(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.asking.announced(0.0)
    for number in range(100):
        bench.hear(bytes((2, 0, 0, 0, 1, number)))
    assert len(caplog.messages) == REPORTS_AT_MOST


def test_where_no_answers_are_heard_nobody_is_asked() -> None:
    deaf = Bench(hears=False)
    deaf.follow(unproven=True)
    deaf.asking.announced(0.0)
    assert (deaf.ask(0.0), deaf.asking.proof, deaf.asking.deadline) == ([], None, float("inf"))
    deaf.port.wires[4].close()
    deaf.wire.close()
