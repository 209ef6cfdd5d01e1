"""Questions to the LAN and answers from it: the bytes, hostile ones too, and what the kernel's filter lets through."""

from __future__ import annotations

import socket
import struct
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.net.inquiry import Answer, AnswerError, answers_filter, owner, question, read_answer
from sidecar.net.neighbor import announcements
from sidecar.protocol.packet import internet_checksum
from sidecar.protocol.types import IPAddress

OURS, THEIRS = bytes.fromhex("020000000011"), bytes.fromhex("020000000099")
VIP, VIP6 = IPv4Address("10.0.0.200"), IPv6Address("fd00::200")
PEER, PEER6 = IPv4Address("10.0.0.12"), IPv6Address("fd00::12")


def arp(*, operation: int = 2, mac: bytes = THEIRS, sender: IPv4Address = VIP, target: IPv4Address = PEER) -> bytes:
    body = struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, operation, mac, sender.packed, OURS, target.packed)
    return OURS + THEIRS + b"\x08\x06" + body


def advertisement(
    *, target: IPv6Address = VIP6, told: IPv6Address = PEER6, options: bytes = b"\x02\x01" + THEIRS, kind: int = 136
) -> bytes:
    def body(checksum: int) -> bytes:
        return struct.pack("!BBHI16s", kind, 0, checksum, 0x60000000, target.packed) + options

    length = len(body(0))
    pseudo = target.packed + told.packed + struct.pack("!IHBB", length, 0, 0, 58)
    header = struct.pack("!IHBB", 6 << 28, length, 58, 255) + target.packed + told.packed
    return OURS + THEIRS + b"\x86\xdd" + header + body(internet_checksum(pseudo + body(0)))


def changed(frame: bytes, at: int, value: int) -> bytes:
    return frame[:at] + bytes((value,)) + frame[at + 1 :]


# Questions -----------------------------------------------------------------------------------------------------------


def test_an_arp_question_in_nobodys_name_is_a_probe() -> None:
    frame = question(mac=OURS, target=VIP)
    assert frame[:14] == b"\xff" * 6 + OURS + b"\x08\x06"
    assert frame[14:] == struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 1, OURS, bytes(4), bytes(6), VIP.packed)


def test_an_arp_question_in_the_name_of_a_vip_teaches_where_it_is() -> None:
    frame = question(mac=OURS, target=PEER, sender=VIP)
    assert (frame[22:28], frame[28:32], frame[38:42]) == (OURS, VIP.packed, PEER.packed)


@pytest.mark.parametrize(("sender", "options"), [(None, b""), (VIP6, b"\x01\x01" + OURS)])
def test_an_nd_question_goes_to_the_solicited_node_group(sender: IPAddress | None, options: bytes) -> None:
    frame = question(mac=OURS, target=PEER6, sender=sender)
    group = IPv6Address("ff02::1:ff00:12")
    assert frame[:14] == bytes.fromhex("3333ff000012") + OURS + b"\x86\xdd"
    version, length, following, hops = struct.unpack_from("!IHBB", frame, 14)
    assert (version >> 28, length, following, hops) == (6, 24 + len(options), 58, 255)
    source = IPv6Address("::") if sender is None else VIP6
    assert (frame[22:38], frame[38:54]) == (source.packed, group.packed)
    body = frame[54:]
    assert (body[0], body[8:24], body[24:]) == (135, PEER6.packed, options)
    pseudo = source.packed + group.packed + struct.pack("!IHBB", length, 0, 0, 58)
    assert internet_checksum(pseudo + body) == 0


# Answers -------------------------------------------------------------------------------------------------------------


def test_an_arp_reply_is_an_answer() -> None:
    assert read_answer(arp()) == Answer(address=VIP, mac=THEIRS, told=PEER, to=OURS)
    assert read_answer(arp() + bytes(18)) == read_answer(arp())  # padded to Ethernet's least length


def test_an_advertisement_is_an_answer() -> None:
    assert read_answer(advertisement()) == Answer(address=VIP6, mac=THEIRS, told=PEER6, to=OURS)
    nonce = b"\x0e\x01" + bytes(6)
    assert read_answer(advertisement(options=nonce + b"\x02\x01" + THEIRS)).mac == THEIRS


@pytest.mark.parametrize(
    ("frame", "why"),
    [
        (b"", "neither ARP nor IPv6"),
        (OURS + THEIRS + b"\x08\x00" + bytes(60), "neither ARP nor IPv6"),
        (arp()[:41], "ARP that is cut short"),
        (arp(operation=1), "no reply for IPv4 over Ethernet"),
        (changed(arp(), 15, 6), "no reply for IPv4 over Ethernet"),
        (changed(arp(), 18, 8), "no reply for IPv4 over Ethernet"),
        (arp(mac=b"\xff" * 6), "no single host's MAC"),
        (arp(mac=bytes(6)), "no single host's MAC"),
        (advertisement()[:77], "IPv6 that is cut short"),
        (advertisement()[:-1], "no ND of this link"),
        (changed(advertisement(), 14, 0x40), "no ND of this link"),
        (changed(advertisement(), 20, 17), "no ND of this link"),
        (changed(advertisement(), 21, 64), "no ND of this link"),
        (changed(advertisement(), 19, 8), "no ND of this link"),
        (advertisement(kind=135), "no sound neighbour advertisement"),
        (changed(advertisement(), 55, 1), "no sound neighbour advertisement"),
        (changed(advertisement(), 70, 0x77), "no sound neighbour advertisement"),
        (advertisement(options=b""), "without a MAC"),
        (advertisement(options=b"\x01\x01" + THEIRS), "without a MAC"),
        (advertisement(options=b"\x01\x00" + THEIRS), "without a MAC"),
        (advertisement(options=b"\x01\x01" + THEIRS + b"\x02\x01"), "without a MAC"),
        (advertisement(options=b"\x02\x01" + b"\x33" * 6), "no single host's MAC"),
    ],
)
def test_anything_else_is_none(frame: bytes, why: str) -> None:
    with pytest.raises(AnswerError, match=why):
        read_answer(frame)


@given(st.binary(max_size=120), st.sampled_from((arp(), advertisement())), st.integers(0, 90))
def test_whatever_arrives_is_an_answer_or_an_answer_error(noise: bytes, frame: bytes, at: int) -> None:
    for data in (noise, frame[:at] + noise, frame[:12] + noise):
        try:
            answer = read_answer(data)
        except AnswerError:
            continue
        assert len(answer.mac) == 6


# The filter ----------------------------------------------------------------------------------------------------------


def passes(version: int, addresses: list[IPAddress], frame: bytes) -> bool:
    """Run the filter as the kernel does (classic BPF)."""
    accumulator, at = 0, 0
    program = answers_filter(version, addresses)  # type: ignore[arg-type]
    while True:
        code, true, false, value = program[at]
        at += 1
        size = {0x20: 4, 0x28: 2, 0x30: 1}.get(code)
        if size is not None:
            if value + size > len(frame):
                return False
            accumulator = int.from_bytes(frame[value : value + size], "big")
        elif code == 0x15:
            at += true if accumulator == value else false
        else:
            assert code == 0x06
            return value > 0


@pytest.mark.parametrize(
    ("frame", "lets_through"),
    [
        (arp(), True),
        (arp(sender=PEER, target=VIP), True),
        (arp(sender=PEER, target=PEER), False),
        (arp(operation=1), False),
        (advertisement(), False),
    ],
)
def test_the_arp_filter_lets_replies_from_and_to_vips_through(frame: bytes, lets_through: bool) -> None:
    assert passes(4, [VIP, VIP6, IPv4Address("10.0.0.1")], frame) is lets_through


@pytest.mark.parametrize(
    ("frame", "lets_through"),
    [
        (advertisement(), True),
        (advertisement(target=PEER6, told=VIP6), True),
        (advertisement(target=PEER6), False),
        (advertisement(kind=135), False),
        (announcements(mac=THEIRS, address=VIP6)[0], True),
        (arp(), False),
    ],
)
def test_the_nd_filter_lets_advertisements_of_and_to_vips_through(frame: bytes, lets_through: bool) -> None:
    assert passes(6, [VIP, VIP6], frame) is lets_through


@pytest.mark.parametrize("many", [250, 251, 4000])
def test_a_filter_for_many_addresses_fits_into_the_kernel(many: int) -> None:
    addresses: list[IPAddress] = [ip_address(int(VIP) + number) for number in range(many)]
    assert len(answers_filter(4, addresses)) < 4096
    assert passes(4, addresses, arp(sender=addresses[-1]))  # type: ignore[arg-type]
    assert passes(4, addresses, arp(sender=PEER)) is (many > 250)


def test_the_kernel_takes_the_filters() -> None:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with near, far:
        import ctypes  # noqa: PLC0415 - only here

        for version in (4, 6):
            program = answers_filter(version, [VIP, VIP6])  # type: ignore[arg-type]
            buffer = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in program))
            near.setsockopt(socket.SOL_SOCKET, 26, struct.pack("HP", len(program), ctypes.addressof(buffer)))


# Who has an address, as the doctor hears it ---------------------------------------------------------------------------

MAC = bytes.fromhex("02a1b2c3d4e5")
OTHER = bytes.fromhex("020000000002")
V4 = IPv4Address("10.0.0.200")
V6 = IPv6Address("fd00::12:3456")

# Written by hand from RFC 5227, 2.1.1.
ARP_PROBE = (
    "ffffffffffff 02a1b2c3d4e5 0806 0001 0800 06 04 0001"  # to all, a request
    "02a1b2c3d4e5 00000000"  # sender: us, no address, so that no cache is moved
    "000000000000 0a0000c8"
)
# RFC 4861, 4.3 and RFC 4291, 2.7.1.
SOLICITATION = (
    "3333ff123456 02a1b2c3d4e5 86dd"
    "60000000 0018 3a ff"
    "00000000000000000000000000000000"  # from nobody, which makes it a probe (RFC 4862, 5.4.2)
    "ff0200000000000000000001ff123456"
    "87 00 CCCC 00000000"
    "fd000000000000000000000000123456"
)


def test_an_arp_probe() -> None:
    assert question(mac=MAC, target=V4) == bytes.fromhex(ARP_PROBE)


def test_a_neighbour_solicitation_without_a_source() -> None:
    frame = question(mac=MAC, target=V6)
    wanted, _, rest = SOLICITATION.replace(" ", "").partition("CCCC")
    assert frame.hex() == wanted + frame[56:58].hex() + rest
    pseudo = frame[22:54] + bytes.fromhex("00000018 0000003a")
    assert internet_checksum(pseudo + frame[54:]) == 0


def test_an_answer_names_its_owner() -> None:
    for address in (V4, V6):
        for frame in announcements(mac=OTHER, address=address):
            assert owner(frame, address) == OTHER
            assert owner(frame, type(address)(int(address) + 1)) is None


def test_a_probe_claims_nothing() -> None:
    for address in (V4, V6):
        assert owner(question(mac=OTHER, target=address), address) is None


@given(st.binary(max_size=90))
def test_nonsense_claims_nothing(frame: bytes) -> None:
    assert owner(frame, V4) is None
    assert owner(frame, V6) is None
