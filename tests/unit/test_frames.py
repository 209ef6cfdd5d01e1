from dataclasses import replace
from ipaddress import IPv4Address
from typing import Literal

import pytest

from sidecar.capture.frames import LINK_TYPES, Envelope, envelope
from sidecar.protocol.types import DropReason
from tests.fakes.captures import GROUP6, LINKS, SOURCE6, advert, ethernet, ipv4, ipv6

ADVERT = advert()
SOURCE, DESTINATION = IPv4Address("10.77.0.1"), IPv4Address("224.0.0.18")
SOUND = Envelope(source=SOURCE, destination=DESTINATION, payload=ADVERT)
SOUND6 = Envelope(source=SOURCE6, destination=GROUP6, payload=ADVERT)
HIDDEN6 = Envelope(source=SOURCE6, destination=GROUP6, payload=ADVERT, fault=DropReason.NOT_CARP)
"""Behind extension headers: nobody sends that, and no receiver of ours looks behind them."""
CUT = Envelope(fault=DropReason.TRUNCATED)

HOP_BY_HOP, ROUTING, FRAGMENT, OPTIONS, CARP = 0, 43, 44, 60, 112

every_link = pytest.mark.parametrize("link", LINKS)


def of(packet: bytes) -> Envelope | None:
    return envelope(101, packet)


def edit(packet: bytes, at: int, value: int) -> bytes:
    return packet[:at] + bytes((value,)) + packet[at + 1 :]


def fragment(offset_and_flags: int) -> bytes:
    return ipv6(bytes((CARP, 0)) + offset_and_flags.to_bytes(2, "big") + bytes(4) + ADVERT, next_header=FRAGMENT)


@every_link
def test_every_link_type_carries_ipv4_and_ipv6(link: str) -> None:
    number, wrap = LINKS[link]
    assert envelope(number, wrap(ipv4(ADVERT), 4)) == SOUND
    assert envelope(number, wrap(ipv6(ADVERT), 6)) == SOUND6


def test_link_types_of_one_ip_version() -> None:
    assert envelope(228, ipv4(ADVERT)) == SOUND
    assert envelope(229, ipv6(ADVERT)) == SOUND6


@pytest.mark.parametrize("family", [10, 24, 28, 30])
@pytest.mark.parametrize("order", ["little", "big"])
def test_every_system_has_its_own_number_for_ipv6(family: int, order: Literal["little", "big"]) -> None:
    assert envelope(0, family.to_bytes(4, order) + ipv6(ADVERT)) == SOUND6


def test_every_link_type_that_is_listed_is_tested() -> None:
    assert set(LINK_TYPES) == {number for number, _ in LINKS.values()} | {228, 229}


def test_a_link_type_that_is_not_listed() -> None:
    with pytest.raises(KeyError):
        envelope(105, b"")


@every_link
def test_a_frame_cut_before_the_protocol_byte_may_be_carp(link: str) -> None:
    number, wrap = LINKS[link]
    for version, protocol_at in ((4, 9), (6, 6)):
        whole = wrap({4: ipv4(ADVERT), 6: ipv6(ADVERT)}[version], version)
        start = len(wrap(b"", version))
        for length in range(start + protocol_at + 1):
            assert envelope(number, whole[:length]) == CUT, (version, length)


@every_link
def test_a_frame_cut_after_it_shows_what_is_there(link: str) -> None:
    number, wrap = LINKS[link]
    packet = ipv4(ADVERT)
    start = len(wrap(b"", 4))
    for length in range(10, len(packet)):
        found = envelope(number, wrap(packet, 4)[: start + length])
        assert found == Envelope(
            source=SOURCE if length >= 16 else None,
            destination=DESTINATION if length >= 20 else None,
            payload=packet[20:length],
            fault=DropReason.TRUNCATED,
        ), length


def test_an_ipv6_packet_that_is_cut_shows_what_is_there() -> None:
    packet = ipv6(ADVERT)
    for length in range(7, len(packet)):
        assert of(packet[:length]) == Envelope(
            source=SOURCE6 if length >= 24 else None,
            destination=GROUP6 if length >= 40 else None,
            payload=packet[40:length],
            fault=DropReason.TRUNCATED,
        ), length


@pytest.mark.parametrize(
    ("link_type", "frame"),
    [
        (1, ethernet(bytes(28), 0x0806)),
        (1, ethernet(ipv4(ADVERT, protocol=1))),
        (1, ethernet(ipv6(ADVERT, next_header=58), 0x86DD)),
        (1, ethernet(bytes(40), 0x0026)),  # 802.3: a length, as of spanning tree
        (1, ethernet(b"\0\x05\x08\x06" + bytes(28), 0x8100)),
        (1, ethernet(b"", 0x88CC)),
        (113, bytes(14) + b"\x08\x06" + bytes(28)),
        (276, b"\x08\x06"),
        (276, b"\x08\x06" + bytes(46)),
        (0, bytes((7, 0, 0, 0)) + ipv4(ADVERT)),
        (108, bytes((0, 0, 0, 0)) + ipv4(ADVERT)),
        (101, b"\x50"),
        (228, ipv4(ADVERT, protocol=2)),
        (229, ipv6(ADVERT, next_header=17)),
        (228, bytes(10)),
        (229, bytes(7)[:6] + b"\x3a"),
    ],
)
def test_what_is_not_carp_is_nothing(link_type: int, frame: bytes) -> None:
    assert envelope(link_type, frame) is None


def test_a_ttl_that_a_router_has_touched() -> None:
    assert of(ipv4(ADVERT, ttl=254)) == Envelope(
        source=SOURCE, destination=DESTINATION, payload=ADVERT, fault=DropReason.BAD_TTL
    )
    assert of(ipv6(ADVERT, hop_limit=254)) == Envelope(
        source=SOURCE6, destination=GROUP6, payload=ADVERT, fault=DropReason.BAD_TTL
    )


def test_padding_is_no_part_of_the_packet() -> None:
    assert of(ipv4(ADVERT) + b"padding") == SOUND
    assert of(ipv6(ADVERT) + b"padding") == SOUND6


def test_a_payload_of_more_than_255_bytes_is_all_there() -> None:
    long = ADVERT + bytes(600)
    for packet in (ipv4(long), ipv6(long)):
        found = of(packet)
        assert found is not None
        assert (found.payload, found.fault) == (long, None)


def test_ipv4_options_are_skipped() -> None:
    assert of(ipv4(ADVERT, options=b"\x94\x04\0\0")) == SOUND


@pytest.mark.parametrize(
    ("packet", "payload"),
    [
        (edit(ipv4(ADVERT), 10, 0), ADVERT),
        (edit(ipv4(ADVERT), 0, 0x44), b""),
        (edit(ipv4(ADVERT), 3, 19), b""),
    ],
    ids=["checksum", "header-length", "total-length"],
)
def test_a_bad_ipv4_header(packet: bytes, payload: bytes) -> None:
    assert of(packet) == Envelope(
        source=SOURCE, destination=DESTINATION, payload=payload, fault=DropReason.BAD_IP_HEADER
    )


def test_the_ip_version_must_be_what_the_frame_says() -> None:
    found = envelope(228, edit(ipv4(ADVERT), 0, 0x65))
    assert found is not None
    assert found.fault is DropReason.BAD_IP_HEADER
    found = envelope(229, edit(ipv6(ADVERT), 0, 0x40))
    assert found is not None
    assert found.fault is DropReason.BAD_IP_HEADER


@pytest.mark.parametrize(
    ("flags", "payload"), [(0x2000, ADVERT), (0x2001, b""), (0x0001, b""), (0x0100, b""), (0x1FFF, b"")]
)
def test_an_ipv4_fragment_shows_a_header_only_if_it_is_the_first(flags: int, payload: bytes) -> None:
    assert of(ipv4(ADVERT, fragment=flags)) == Envelope(
        source=SOURCE, destination=DESTINATION, payload=payload, fault=DropReason.FRAGMENT
    )


@pytest.mark.parametrize(("flags", "payload"), [(1, ADVERT), (8, b""), (9, b""), (0x0100, b""), (0xFFF8, b"")])
def test_an_ipv6_fragment_shows_a_header_only_if_it_is_the_first(flags: int, payload: bytes) -> None:
    assert of(fragment(flags)) == Envelope(
        source=SOURCE6, destination=GROUP6, payload=payload, fault=DropReason.FRAGMENT
    )


def test_a_fragment_header_alone_makes_no_fragment() -> None:
    assert of(fragment(0)) == HIDDEN6
    assert of(fragment(6)) == HIDDEN6  # its reserved bits


def test_carp_behind_ipv6_extension_headers_is_shown_and_refused() -> None:
    chain = bytes((ROUTING, 0)) + bytes(6) + bytes((OPTIONS, 1)) + bytes(14) + bytes((CARP, 0)) + bytes(6) + ADVERT
    assert of(ipv6(chain, next_header=HOP_BY_HOP)) == HIDDEN6


def test_an_extension_header_that_is_cut_may_hide_carp() -> None:
    packet = ipv6(bytes((CARP, 0)) + bytes(6) + ADVERT, next_header=HOP_BY_HOP)
    cut = Envelope(source=SOURCE6, destination=GROUP6, fault=DropReason.TRUNCATED)
    assert of(packet[:40]) == cut
    assert of(packet[:41]) == cut
    assert of(packet[:48]) == replace(cut, fault=DropReason.NOT_CARP)


def test_extension_headers_that_are_longer_than_the_packet() -> None:
    assert of(ipv6(bytes((CARP, 9)) + bytes(6), next_header=OPTIONS)) == Envelope(
        source=SOURCE6, destination=GROUP6, fault=DropReason.NOT_CARP
    )


def test_extension_headers_before_something_else_are_nothing() -> None:
    assert of(ipv6(bytes((58, 0)) + bytes(6) + ADVERT, next_header=HOP_BY_HOP)) is None
    looks_like_carp = bytes((CARP, 0)) + bytes(6) + ADVERT
    later = bytes((OPTIONS, 0, 0, 8)) + bytes(4) + looks_like_carp  # a later fragment's bytes are no options
    assert of(ipv6(later, next_header=FRAGMENT)) is None
