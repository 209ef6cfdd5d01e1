"""What the observer believes, asks and tells."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

import pytest

from bench.failover.observer import Lane, Seen, announcement
from sidecar.demo.probe import echo_frame
from sidecar.net.neighbor import announcements
from sidecar.protocol.packet import internet_checksum

VIP, VIP6 = IPv4Address("10.77.0.100"), IPv6Address("fd77::100")
CLIENT, CLIENT6 = IPv4Address("10.77.0.200"), IPv6Address("fd77::200")
OURS, NODE = bytes.fromhex("0200000000c8"), bytes.fromhex("020000000001")


def lane(version: int = 4) -> Lane:
    source, target = (CLIENT, VIP) if version == 4 else (CLIENT6, VIP6)
    return Lane(source=source.packed, target=target.packed, mac=OURS, seen=Seen(version=version))


def reply(version: int, number: int, *, ttl: int = 61) -> bytes:
    source, target = (VIP, CLIENT) if version == 4 else (VIP6, CLIENT6)
    frame = bytearray(echo_frame(source.packed, target.packed, number=number, ethernet=OURS + NODE))
    frame[22 if version == 4 else 21] = ttl
    frame[34 if version == 4 else 54] = 0 if version == 4 else 129
    return bytes(frame)


@pytest.mark.parametrize("vip", [VIP, VIP6])
def test_our_announcements_tell_where_the_vip_is(vip: IPv4Address | IPv6Address) -> None:
    for frame in announcements(mac=NODE, address=vip):
        assert announcement(frame, vip.packed) == NODE
        assert announcement(frame, CLIENT.packed if vip.version == 4 else CLIENT6.packed) is None
        assert announcement(frame[:20], vip.packed) is None


@pytest.mark.parametrize("version", [4, 6])
def test_nothing_is_asked_of_a_vip_that_nobody_has_announced(version: int) -> None:
    asking = lane(version)
    assert asking.client_probe(1.0) is None
    assert asking.seen.client_sent == [1.0], "a probe that nobody answers all the same"
    asking.heard(announcements(mac=NODE, address=VIP if version == 4 else VIP6)[0], 1.0)
    frame = asking.client_probe(2.0)
    assert frame is not None
    assert frame[:12] == NODE + OURS


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("probes", [1, 0x10002])
def test_the_checksum_follows_the_number(version: int, probes: int) -> None:
    asking = lane(version)
    asking.seen.all_sent = [0.0] * probes
    frame = asking.all_probe(1.0)
    start = 34 if version == 4 else 54
    pseudo = b"" if version == 4 else bytes(frame[22:54]) + struct.pack("!II", 8, 58)
    assert internet_checksum(pseudo + bytes(frame[start:])) == 0
    assert int.from_bytes(frame[start + 4 :], "big") == 1 << 31 | probes


@pytest.mark.parametrize("version", [4, 6])
def test_answers_are_told_apart_by_the_kind_of_their_probe(version: int) -> None:
    asking = lane(version)
    asking.heard(reply(version, 5, ttl=62), 1.0)
    asking.heard(reply(version, 1 << 31 | 7, ttl=63), 1.0)
    assert asking.seen.client_answers == [(5, 62)]
    assert asking.seen.all_answers == [(7, 63)]


def test_a_change_of_who_answers_is_told_once_and_silence_too(capsys: pytest.CaptureFixture[str]) -> None:
    asking = lane()
    for number, ttl in ((1, 61), (2, 61), (3, 62), (1, 61)):  # the last one is late, and tells nothing
        asking.heard(reply(4, number, ttl=ttl), 1.0)
    asking.silence(1.01)
    asking.silence(2.0)
    asking.silence(3.0)
    assert capsys.readouterr().out == "4 61\n4 62\n4 0\n"
