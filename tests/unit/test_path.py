"""A group's ways out of the node: what is sent over each, and when an interface counts as unable to send."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from sidecar.engine.path import Path, Port
from sidecar.ipc.plan import PathPlan
from sidecar.protocol.packet import HEADER_LENGTH, PacketError, parse
from sidecar.protocol.types import DropReason
from tests.fakes.plans import PATH4, PATH6

MAC = bytes.fromhex("020000000011")
PAYLOAD = bytes(range(HEADER_LENGTH))


@pytest.fixture
def wire() -> Iterator[tuple[Port, socket.socket]]:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with near, far:
        near.setblocking(False)
        far.setblocking(False)
        yield Port("eth0", MAC, True, {4: near, 6: near}), far


@pytest.mark.parametrize(
    ("plan", "transport", "ethernet"),
    [
        (PATH4, "multicast", "01005e000012 020000000011 0800"),
        (PATH4, "broadcast", "ffffffffffff 020000000011 0800"),
        (PathPlan(source="10.0.0.11", multicast_group="239.130.7.7"), "multicast", "01005e020707 020000000011 0800"),
        (PATH6, "multicast", "333300000012 020000000011 86dd"),
    ],
)
def test_an_advert_leaves_in_its_envelope(
    plan: PathPlan, transport: str, ethernet: str, wire: tuple[Port, socket.socket]
) -> None:
    port, far = wire
    assert Path(plan, transport=transport, port=port).transmit(PAYLOAD, mac=MAC) == [None]
    frame = far.recv(2048)
    assert frame[:14] == bytes.fromhex(ethernet)
    datagram = parse(frame[14:])
    assert (str(datagram.source), str(datagram.destination)) == (plan.source, plan.multicast_group)
    assert (datagram.ttl, datagram.payload) == (255, PAYLOAD)


def test_unicast_is_addressed_to_our_own_address_and_goes_to_each_peer() -> None:
    plan = PathPlan(source="fe80::11", multicast_group="ff02::12", peers=("fe80::12", "fe80::13"))
    path = Path(plan, transport="unicast", port=Port("eth0", MAC, True, {}))
    assert path.destination == path.source == ip_address("fe80::11")
    assert path.targets == (ip_address("fe80::12"), ip_address("fe80::13"))


def test_what_no_group_gets_is_counted_by_sender_and_logged_once_in_a_while(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    port = Port("eth0", MAC, True, {})
    sender = ip_address("10.0.0.9")
    for wall in (1000.0, 1001.0, 2000.0):
        port.drop(PacketError(DropReason.BAD_TTL, "TTL 1", source=sender), wall=wall)
    port.drop(PacketError(DropReason.TRUNCATED, "0 bytes"), wall=1000.0)
    assert port.drops == {DropReason.BAD_TTL: 3, DropReason.TRUNCATED: 1}
    assert [(peer.address, peer.drops) for peer in port.strangers.status()] == [("10.0.0.9", {"bad-ttl": 3})]
    assert caplog.messages == ["packets from 10.0.0.9 on eth0 are dropped: TTL 1"] * 2


def test_an_interface_fails_after_three_adverts_in_a_row_for_each_group_and_recovers_likewise() -> None:
    port = Port("eth0", MAC, True, {}, groups=2)
    for _ in range(5):
        port.note_advert("Network is down", 1.0)
    port.note_advert(None, 1.0)
    for _ in range(5):
        port.note_advert("Network is down", 1.0)
    assert not port.failing
    port.note_advert("No buffer space available", 2.0)
    assert (port.failing, port.fault, port.failed_at) == (True, "No buffer space available", 2.0)
    for _ in range(5):
        port.note_advert(None, 1.0)
    port.note_advert("Network is down", 1.0)
    for _ in range(5):
        port.note_advert(None, 1.0)
    assert port.failing
    port.note_advert(None, 1.0)
    assert not port.failing
