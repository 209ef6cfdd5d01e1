import struct
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.protocol.packet import (
    HEADER_LENGTH,
    Datagram,
    Header,
    PacketError,
    build_ipv4,
    build_ipv6,
    check,
    checksum_ok,
    internet_checksum,
    pack,
    parse,
    parse_ipv4,
    parse_ipv6,
    unpack,
)
from sidecar.protocol.types import CARP_GROUP, DropReason
from tests.fakes.captures import GROUP6, SOURCE6, advert, ipv4, ipv6

WIRE = bytes.fromhex("210100070001dfce0123456789abcdefdd14fd71e57a54757f6eabab699172fb3aa50a3f")
"""OpenBSD's, from data/vectors.json."""
HEADER = Header(vhid=1, advbase=1, advskew=0, counter=0x0123456789ABCDEF, mac=WIRE[16:], checksum=0xDFCE)
UCARP = bytes.fromhex(
    "4510003828a54000ff7068400a4d0001e0000012212a000700014cad5d12cae8033d89a6340e0517bd257d79dcfc4ed16c90c6cdd0bf3991"
)
"""The first packet in data/captures/01-start-master.pcap."""

octets = st.integers(0, 255)
headers = st.builds(
    Header,
    vhid=octets,
    advbase=octets,
    advskew=octets,
    demotion=octets,
    version=st.integers(0, 15),
    type=st.integers(0, 15),
    auth_length=octets,
    counter=st.integers(0, 2**64 - 1),
    mac=st.binary(min_size=20, max_size=20),
)


def reason(packet: bytes, read: Callable[[bytes], Datagram] = parse_ipv4) -> DropReason:
    with pytest.raises(PacketError) as caught:
        read(packet)
    return caught.value.reason


def edit(packet: bytes, at: int, value: int) -> bytes:
    return packet[:at] + bytes((value,)) + packet[at + 1 :]


def ip_header(packet: bytes, at: int, value: int) -> bytes:
    """Set one of the first 10 bytes of a 20-byte IPv4 header and mend the header's checksum."""
    edited = packet[:at] + bytes((value,)) + packet[at + 1 : 10] + b"\0\0" + packet[12:20]
    return edited[:10] + internet_checksum(edited).to_bytes(2, "big") + edited[12:] + packet[20:]


def naive_checksum(data: bytes) -> int:
    total = 0
    for (word,) in struct.iter_unpack("!H", data + b"\0" * (len(data) % 2)):
        total += word
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


@pytest.mark.parametrize(
    ("data", "checksum"),
    [
        ("0001f203f4f5f6f7", 0x220D),  # RFC 1071, section 3
        ("", 0xFFFF),
        ("00", 0xFFFF),
        ("ffff", 0),
        ("ffffffff", 0),
        ("01", 0xFEFF),
    ],
)
def test_internet_checksum(data: str, checksum: int) -> None:
    assert internet_checksum(bytes.fromhex(data)) == checksum


@given(st.binary(max_size=80))
def test_internet_checksum_is_the_sum_word_by_word(data: bytes) -> None:
    assert internet_checksum(data) == naive_checksum(data)


def test_unpack_reads_every_field_from_its_place() -> None:
    wire = bytes.fromhex("3502030405060708090a0b0c0d0e0f10") + bytes(range(100, 120))
    assert unpack(wire) == Header(
        version=3,
        type=5,
        vhid=2,
        advskew=3,
        auth_length=4,
        demotion=5,
        advbase=6,
        checksum=0x0708,
        counter=0x090A0B0C0D0E0F10,
        mac=bytes(range(100, 120)),
    )


def test_unpack_ignores_what_follows() -> None:
    assert unpack(WIRE + b"trailing") == HEADER


@pytest.mark.parametrize("length", range(HEADER_LENGTH))
def test_a_short_header_is_truncated(length: int) -> None:
    with pytest.raises(PacketError, match=f"{length} bytes where a CARP header takes 36") as caught:
        unpack(WIRE[:length])
    assert caught.value.reason is DropReason.TRUNCATED


def test_pack_makes_the_wire_form_and_its_own_checksum() -> None:
    assert pack(HEADER) == WIRE
    assert pack(replace(HEADER, checksum=0x1234)) == WIRE


@given(headers)
def test_pack_and_unpack_are_inverse(header: Header) -> None:
    wire = pack(header)
    assert len(wire) == HEADER_LENGTH
    assert replace(unpack(wire), checksum=0) == header
    assert checksum_ok(wire)
    assert checksum_ok(wire + b"\x01")


@given(headers, st.integers(0, HEADER_LENGTH * 8 - 1))
def test_one_wrong_bit_breaks_the_checksum(header: Header, bit: int) -> None:
    wire = int.from_bytes(pack(header), "big") ^ 1 << bit
    assert not checksum_ok(wire.to_bytes(HEADER_LENGTH, "big"))


def test_check_accepts_a_sound_header() -> None:
    check(HEADER, WIRE)
    check(HEADER, WIRE + b"trailing")


def test_check_looks_at_the_version_first_then_at_the_checksum() -> None:
    third = b"\x31" + WIRE[1:]
    with pytest.raises(PacketError, match="version 3 where CARP is 2") as caught:
        check(unpack(third), third)
    assert caught.value.reason is DropReason.BAD_VERSION
    broken = WIRE[:6] + b"\0\0" + WIRE[8:]
    with pytest.raises(PacketError, match="checksum 0x0000 is wrong") as caught:
        check(unpack(broken), broken)
    assert caught.value.reason is DropReason.BAD_CHECKSUM


@pytest.mark.parametrize("first", [0x20, 0x2F])
def test_nobody_checks_type_authlen_or_demotion(first: int) -> None:
    header = replace(HEADER, type=first & 15, auth_length=0, demotion=9)
    check(header, pack(header))


def test_parse_ipv4_of_a_real_header() -> None:
    assert parse_ipv4(UCARP) == Datagram(
        source=IPv4Address("10.77.0.1"), destination=CARP_GROUP, ttl=255, payload=UCARP[20:]
    )


def test_parse_ipv4_cuts_ethernet_padding_off() -> None:
    assert parse_ipv4(ipv4(advert()) + b"padding").payload == advert()


def test_parse_ipv4_skips_options() -> None:
    assert parse_ipv4(ipv4(advert(), options=b"\x94\x04\0\0")).payload == advert()


def test_parse_ipv4_leaves_the_ttl_to_its_caller() -> None:
    assert parse_ipv4(ipv4(advert(), ttl=1)).ttl == 1


def test_parse_ipv4_takes_an_empty_payload() -> None:
    assert parse_ipv4(ipv4(b"")).payload == b""


@pytest.mark.parametrize("length", range(56))
def test_a_cut_packet_is_truncated(length: int) -> None:
    assert reason(ipv4(advert())[:length]) is DropReason.TRUNCATED


@pytest.mark.parametrize(
    ("at", "value"),
    [(0, 0x65), (0, 0x05), (0, 0x44), (0, 0x40), (3, 19), (3, 0)],
    ids=["version-6", "version-0", "ihl-4", "ihl-0", "total-19", "total-0"],
)
def test_an_impossible_ip_header_is_refused(at: int, value: int) -> None:
    assert reason(ip_header(ipv4(advert()), at, value)) is DropReason.BAD_IP_HEADER


@pytest.mark.parametrize("at", [1, 4, 5, 6, 7, 8, *range(10, 20)])
def test_a_broken_ip_header_checksum_is_refused(at: int) -> None:
    packet = bytearray(ipv4(advert()))
    packet[at] ^= 0x10
    assert reason(bytes(packet)) is DropReason.BAD_IP_HEADER


@pytest.mark.parametrize("protocol", [0, 1, 6, 17, 111, 113, 255])
def test_another_protocol_is_not_carp(protocol: int) -> None:
    assert reason(ipv4(advert(), protocol=protocol)) is DropReason.NOT_CARP


@pytest.mark.parametrize("fragment", [0x2000, 0x0001, 0x1FFF, 0x6000])
def test_a_fragment_is_refused(fragment: int) -> None:
    assert reason(ipv4(advert(), fragment=fragment)) is DropReason.FRAGMENT


@pytest.mark.parametrize("fragment", [0, 0x4000, 0x8000, 0xC000])
def test_what_is_no_fragment_is_accepted(fragment: int) -> None:
    assert parse_ipv4(ipv4(advert(), fragment=fragment)).payload == advert()


def test_build_ipv4_makes_what_ucarp_sends() -> None:
    built = build_ipv4(
        source=IPv4Address("10.77.0.1"),
        destination=CARP_GROUP,
        identification=0x28A5,
        payload=pack(unpack(UCARP[20:])),
    )
    assert built == UCARP


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(0, 0xFFFF), st.binary(max_size=99))
def test_build_and_parse_ipv4_are_inverse(source: int, destination: int, identification: int, payload: bytes) -> None:
    addresses = {"source": IPv4Address(source), "destination": IPv4Address(destination)}
    packet = build_ipv4(**addresses, identification=identification, payload=payload)
    assert parse_ipv4(packet) == Datagram(**addresses, ttl=255, payload=payload)


# IPv6 ----------------------------------------------------------------------------------------------------------------


def test_parse_ipv6() -> None:
    assert parse_ipv6(ipv6(advert())) == Datagram(source=SOURCE6, destination=GROUP6, ttl=255, payload=advert())


def test_parse_ipv6_leaves_the_hop_limit_to_its_caller() -> None:
    assert parse_ipv6(ipv6(advert(), hop_limit=9)).ttl == 9


def test_parse_ipv6_cuts_ethernet_padding_off() -> None:
    assert parse_ipv6(ipv6(advert()) + b"padding").payload == advert()


def test_parse_ipv6_takes_an_empty_payload_and_a_long_one() -> None:
    assert parse_ipv6(ipv6(b"")).payload == b""
    assert parse_ipv6(ipv6(bytes(600))).payload == bytes(600)


def test_parse_ipv6_judges_neither_traffic_class_nor_flow_label() -> None:
    assert parse_ipv6(b"\x6f\xff\xff\xff" + ipv6(advert())[4:]).payload == advert()  # FreeBSD: traffic class 0xe0


@pytest.mark.parametrize("length", range(76))
def test_a_cut_ipv6_packet_is_truncated(length: int) -> None:
    assert reason(ipv6(advert())[:length], parse_ipv6) is DropReason.TRUNCATED


@pytest.mark.parametrize("first", [0x45, 0x50, 0x70, 0x00])
def test_another_version_is_no_ipv6(first: int) -> None:
    assert reason(edit(ipv6(advert()), 0, first), parse_ipv6) is DropReason.BAD_IP_HEADER


@pytest.mark.parametrize("next_header", [0, 43, 44, 51, 58, 60, 111, 113])
def test_carp_follows_the_fixed_header_at_once(next_header: int) -> None:
    chain = bytes((112, 0)) + bytes(6) + advert()  # as extension headers go
    assert reason(ipv6(chain, next_header=next_header), parse_ipv6) is DropReason.NOT_CARP


def test_build_ipv6_makes_what_openbsd_sends() -> None:
    """Traffic class 0, flow label 0, hop limit 255, and the payload untouched: no pseudo-header in CARP's checksum."""
    built = build_ipv6(source=SOURCE6, destination=GROUP6, payload=WIRE)
    assert built.hex() == f"60000000 0024 70 ff fe80{'00' * 13}01 ff02{'00' * 13}12".replace(" ", "") + WIRE.hex()
    check(unpack(parse_ipv6(built).payload), parse_ipv6(built).payload)


@given(st.integers(0, 2**128 - 1), st.integers(0, 2**128 - 1), st.binary(max_size=99))
def test_build_and_parse_ipv6_are_inverse(source: int, destination: int, payload: bytes) -> None:
    addresses = {"source": IPv6Address(source), "destination": IPv6Address(destination)}
    packet = build_ipv6(**addresses, payload=payload)
    assert parse_ipv6(packet) == Datagram(**addresses, ttl=255, payload=payload)


# Either ---------------------------------------------------------------------------------------------------------------


def test_parse_goes_by_the_version() -> None:
    for packet, of_its_family in ((ipv4(advert()), parse_ipv4), (ipv6(advert()), parse_ipv6)):
        assert parse(packet) == of_its_family(packet)


def test_parse_refuses_what_is_no_ip() -> None:
    assert reason(b"", parse) is DropReason.TRUNCATED
    assert reason(edit(ipv4(advert()), 0, 0x55), parse) is DropReason.BAD_IP_HEADER


@given(st.binary(max_size=99) | st.binary(max_size=99).map(lambda tail: ipv6(tail)[: len(tail)]))
def test_parse_raises_nothing_but_its_own(packet: bytes) -> None:
    try:
        datagram = parse(packet)
    except PacketError:
        return
    assert datagram.source.version == datagram.destination.version == packet[0] >> 4


def test_an_error_carries_its_reason_and_says_what_was_found() -> None:
    error = PacketError(DropReason.FRAGMENT, "a fragment")
    assert (error.reason, str(error)) == (DropReason.FRAGMENT, "a fragment")
