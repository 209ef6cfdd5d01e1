"""The 36 bytes of an advert: what stands where, and what receivers look at (struct carp_header, OpenBSD ip_carp.h)."""

from __future__ import annotations

import struct

import pytest

from sidecar.protocol.packet import HEADER_LENGTH, Header, build_ipv4, pack, parse_ipv4, unpack
from sidecar.protocol.types import CARP_GROUP, IPPROTO_CARP, DropReason
from tests.fakes.plans import PATH4, PATH6
from tests.fakes.station import StartStation
from tests.fakes.wire import PEER, PEER6, VHID, advert, ipv4, ipv6, rfc1071, sealed

HEADER = Header(vhid=42, advbase=3, advskew=100, demotion=9, counter=0x0102030405060708, mac=bytes(range(20)))


def patched(data: bytes, at: int, value: int) -> bytes:
    """Change one byte and leave the checksum as it was."""
    return data[:at] + bytes((value,)) + data[at + 1 :]


# What stands where ---------------------------------------------------------------------------------------------------


def test_a_header_takes_36_bytes_and_ip_protocol_112() -> None:
    assert len(pack(HEADER)) == HEADER_LENGTH == 36
    packet = build_ipv4(source=PEER, destination=CARP_GROUP, identification=0, payload=pack(HEADER))
    assert packet[9] == IPPROTO_CARP == 112


@pytest.mark.parametrize(
    ("field", "at", "value"),
    [
        ("version_and_type", 0, b"\x21"),
        ("vhid", 1, b"\x2a"),
        ("advskew", 2, b"\x64"),
        ("authlen", 3, b"\x07"),
        ("openbsd_demote_count", 4, b"\x09"),
        ("advbase", 5, b"\x03"),
        ("counter", 8, bytes(range(1, 9))),
        ("hmac_sha1", 16, bytes(range(20))),
    ],
)
def test_each_field_has_its_place(field: str, at: int, value: bytes) -> None:
    assert pack(HEADER)[at : at + len(value)] == value, field


def test_authlen_is_the_counter_and_the_hmac_in_words_and_never_anything_else() -> None:
    assert (8 + 20) // 4 == 7
    assert pack(Header(vhid=1, advbase=255, advskew=255, counter=2**64 - 1, mac=b"\xff" * 20))[3] == 7


def test_without_demotion_byte_4_is_0_as_with_all_but_openbsd() -> None:
    assert pack(Header(vhid=1, advbase=1, advskew=0, counter=0, mac=bytes(20)))[4] == 0


# The checksum --------------------------------------------------------------------------------------------------------


def test_the_checksum_is_that_of_rfc_1071_over_the_36_bytes_with_its_own_field_0() -> None:
    wire = pack(HEADER)
    assert struct.unpack_from("!H", wire, 6)[0] == rfc1071(wire[:6] + b"\0\0" + wire[8:])
    assert rfc1071(wire) == 0


def test_the_checksum_covers_no_pseudo_header(station: StartStation) -> None:
    """The same 36 bytes are sound from any source, and over IPv6."""
    ours = station(paths=(PATH4, PATH6))
    for further in range(3):
        assert ours.hear(ipv4(advert(), source=PEER + further)) is None
        assert ours.hear(ipv6(advert(), source=PEER6 + further)) is None


@pytest.mark.parametrize("at", range(36))
def test_a_wrong_checksum_is_dropped(station: StartStation, at: int) -> None:
    wire = advert()
    assert station().hear(ipv4(patched(wire, at, wire[at] ^ 0x04))) is DropReason.BAD_CHECKSUM


# What nobody looks at, and what everybody does ------------------------------------------------------------------------


@pytest.mark.parametrize("type_", [0, 1, 2, 15])
def test_nobody_checks_the_type(station: StartStation, type_: int) -> None:
    assert station().hear(ipv4(advert(first=0x20 | type_))) is None


@pytest.mark.parametrize("auth_length", [0, 7, 255])
def test_nobody_checks_authlen(station: StartStation, auth_length: int) -> None:
    assert station().hear(ipv4(advert(auth_length=auth_length))) is None


@pytest.mark.parametrize("byte_4", [0, 1, 255])
def test_nobody_checks_byte_4(station: StartStation, byte_4: int) -> None:
    """It may hold anything, and says how far an OpenBSD is demoted."""
    assert station().hear(ipv4(advert(demotion=byte_4))) is None


@pytest.mark.parametrize("version", [0, 1, 3, 4, 15])
def test_another_version_than_2_is_dropped(station: StartStation, version: int) -> None:
    assert station().hear(ipv4(advert(first=version << 4 | 1))) is DropReason.BAD_VERSION


@pytest.mark.parametrize("length", range(36))
def test_less_than_36_bytes_after_the_ip_header_are_dropped(station: StartStation, length: int) -> None:
    assert station().hear(ipv4(advert()[:length])) is DropReason.TRUNCATED
    assert station(paths=(PATH6,)).hear(ipv6(advert()[:length])) is DropReason.TRUNCATED


def test_the_ip_headers_own_length_says_where_the_36_bytes_begin(station: StartStation) -> None:
    router_alert = b"\x94\x04\0\0"
    assert station().hear(ipv4(advert(), options=router_alert)) is None
    assert station().hear(ipv4(advert()[:32], options=router_alert)) is DropReason.TRUNCATED


@pytest.mark.parametrize("trailing", [1, 4, 10, 200])
def test_trailing_bytes_are_ignored_and_not_summed(station: StartStation, trailing: int) -> None:
    """Inside the IP packet, and after it, as Ethernet pads short frames."""
    ours = station(paths=(PATH4, PATH6))
    for wrap in (ipv4, ipv6):
        assert ours.hear(wrap(advert() + b"\xa5" * trailing)) is None
        assert ours.hear(wrap(advert()) + b"\xa5" * trailing) is None


# VRRP, which has the same protocol number and the same group --------------------------------------------------------


def vrrp2(addresses: int) -> bytes:
    """A VRRPv2 advert (RFC 3768, 5.1), with a virtual router id that is our vhid."""
    body = bytes((0x21, VHID, 100, addresses, 0, 1, 0, 0))
    body += b"".join(bytes((10, 0, 0, last)) for last in range(1, addresses + 1)) + bytes(8)
    return body[:6] + struct.pack("!H", rfc1071(body)) + body[8:]


@pytest.mark.parametrize("addresses", range(1, 5))
def test_vrrp2_starts_with_0x21_too_and_fails_by_its_length(station: StartStation, addresses: int) -> None:
    assert station().hear(ipv4(vrrp2(addresses))) is DropReason.TRUNCATED


@pytest.mark.parametrize("addresses", [8, 9, 20])
def test_a_longer_vrrp2_fails_by_its_checksum(station: StartStation, addresses: int) -> None:
    assert station().hear(ipv4(vrrp2(addresses))) is DropReason.BAD_CHECKSUM


@pytest.mark.parametrize("addresses", [5, 6, 7])
def test_a_vrrp2_whose_checksum_happens_to_fit_fails_by_the_hmac(station: StartStation, addresses: int) -> None:
    """Of five addresses it has 36 bytes; of six or seven, nothing but zeros after them."""
    assert rfc1071(vrrp2(addresses)[:36]) == 0
    assert station().hear(ipv4(vrrp2(addresses))) is DropReason.BAD_HMAC


def test_vrrp3_is_0x31_and_fails_by_its_version(station: StartStation) -> None:
    assert station().hear(ipv4(sealed(patched(vrrp2(9), 0, 0x31)))) is DropReason.BAD_VERSION


def test_what_is_not_protocol_112_is_not_carp(station: StartStation) -> None:
    """OpenBSD's pfsync is 240, OSPF is 89."""
    for protocol in (0, 89, 111, 113, 240):
        assert station().hear(ipv4(advert(), protocol=protocol)) is DropReason.NOT_CARP


def test_what_is_packed_is_read_back() -> None:
    packet = build_ipv4(source=PEER, destination=CARP_GROUP, identification=7, payload=pack(HEADER))
    found = unpack(parse_ipv4(packet).payload)
    assert (found.vhid, found.advskew, found.auth_length, found.demotion, found.advbase, found.counter, found.mac) == (
        42,
        100,
        7,
        9,
        3,
        0x0102030405060708,
        bytes(range(20)),
    )
