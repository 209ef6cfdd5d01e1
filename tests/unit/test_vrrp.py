"""Real adverts of keepalived 2.2.7 on Linux, by the number of their addresses, beside those of CARP."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.capture.files import frames
from sidecar.capture.frames import envelope
from sidecar.capture.vrrp import WireProtocol, wire_protocol
from sidecar.protocol.packet import checksum_ok
from tests.fakes.captures import CAPTURES, advert

ADDRESSES = "0a4d00640a4d00650a4d00660a4d00670a4d00680a4d00690a4d006a"
SECRET = b"secret12".hex()

VRRP2 = {
    1: bytes.fromhex("213364010101019b" + ADDRESSES[:8] + SECRET),
    5: bytes.fromhex("213464050101d6c7" + ADDRESSES[:40] + SECRET),
    7: bytes.fromhex("213864070101c154" + ADDRESSES + SECRET),
}
VRRP3 = {
    1: bytes.fromhex("31356401006474d7" + ADDRESSES[:8]),
    7: bytes.fromhex("313664070064347d" + ADDRESSES),
    "two over IPv6": bytes.fromhex(
        "3137640200646f39fe800000000000000000000000000100fd770000000000000000000000000101",
    ),
}


@pytest.mark.parametrize("payload", VRRP2.values(), ids=VRRP2.keys())
def test_vrrp_2(payload: bytes) -> None:
    assert wire_protocol(payload) is WireProtocol.VRRP2


@pytest.mark.parametrize("payload", VRRP3.values(), ids=map(str, VRRP3))
def test_vrrp_3(payload: bytes) -> None:
    assert wire_protocol(payload) is WireProtocol.VRRP3


def test_vrrp_2_of_five_addresses_is_what_carp_would_take_for_sound() -> None:
    """36 bytes with a right checksum: only the count where CARP has its constant tells them apart."""
    assert len(VRRP2[5]) == 36
    assert checksum_ok(VRRP2[5])


def test_carp_is_carp() -> None:
    for trailing in (b"", bytes(8), b"trailing"):
        assert wire_protocol(advert() + trailing) is WireProtocol.CARP
    for path in CAPTURES.glob("*.pcap"):
        with path.open("rb") as file:
            found = [envelope(frame.link_type, frame.data) for frame in frames(file)]
        assert {wire_protocol(each.payload) for each in found if each is not None} <= {WireProtocol.CARP}


@pytest.mark.parametrize("payload", [VRRP2[1], VRRP3[1]])
def test_a_cut_or_broken_packet_is_in_doubt_carp(payload: bytes) -> None:
    for length in range(len(payload)):
        assert wire_protocol(payload[:length]) is WireProtocol.CARP
    assert wire_protocol(payload + b"more") is WireProtocol.CARP
    assert wire_protocol(b"\x21" + payload[1:-1] + b"\0") is WireProtocol.CARP


def test_without_addresses_there_is_no_vrrp_3() -> None:
    assert wire_protocol(bytes.fromhex("3135640000640000")) is WireProtocol.CARP


@given(st.binary(max_size=99))
def test_any_bytes_are_one_of_them(payload: bytes) -> None:
    assert wire_protocol(payload) in WireProtocol
