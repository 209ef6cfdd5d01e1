"""Gratuitous ARP and unsolicited NA, bit for bit, and as Wireshark reads them."""

from __future__ import annotations

import shutil
import subprocess
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.net.neighbor import announcements
from tests.fakes.captures import pcap

MAC = bytes.fromhex("02a1b2c3d4e5")
V4 = IPv4Address("10.0.0.200")
V6 = IPv6Address("fd00::200")
MACS = st.binary(min_size=6, max_size=6)

# Written by hand from RFC 826, RFC 5227 and RFC 4861.
ARP_REQUEST = (
    "ffffffffffff 02a1b2c3d4e5 0806"  # Ethernet: to all, from us, ARP
    "0001 0800 06 04 0001"  # Ethernet, IPv4, lengths, request
    "02a1b2c3d4e5 0a0000c8"  # sender: us, the VIP
    "000000000000 0a0000c8"  # target: unknown, the VIP
)
ARP_REPLY = (
    "ffffffffffff 02a1b2c3d4e5 0806"
    "0001 0800 06 04 0002"
    "02a1b2c3d4e5 0a0000c8"
    "02a1b2c3d4e5 0a0000c8"  # target: us, the VIP
)
NA = (
    "333300000001 02a1b2c3d4e5 86dd"  # Ethernet: to all nodes, from us, IPv6
    "60000000 0020 3a ff"  # version 6, 32 bytes of ICMPv6, hop limit 255
    "fd000000000000000000000000000200"  # from the VIP
    "ff020000000000000000000000000001"  # to all nodes
    "88 00 CCCC 20000000"  # neighbor advertisement: not solicited, override, no router
    "fd000000000000000000000000000200"  # target: the VIP
    "02 01 02a1b2c3d4e5"  # option: our link-layer address
)


def textbook_checksum(data: bytes) -> int:
    """RFC 1071, word by word with the carry added back."""
    total = 0
    for at in range(0, len(data), 2):
        total += (data[at] << 8) + (data[at + 1] if at + 1 < len(data) else 0)
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def pseudo_header(ipv6: bytes) -> bytes:
    """RFC 8200, section 8.1: source, destination, length (4 bytes), three zero bytes, next header."""
    return ipv6[8:40] + bytes(2) + ipv6[4:6] + bytes(3) + ipv6[6:7]


def test_ipv4_is_announced_as_request_and_as_reply() -> None:
    expected = [bytes.fromhex(text.replace(" ", "")) for text in (ARP_REQUEST, ARP_REPLY)]
    assert list(announcements(mac=MAC, address=V4)) == expected


def test_ipv6_is_announced_by_one_unsolicited_override_advertisement() -> None:
    text = NA.replace(" ", "")
    unsummed = bytes.fromhex(text.replace("CCCC", "0000"))
    checksum = textbook_checksum(pseudo_header(unsummed[14:]) + unsummed[54:])
    assert announcements(mac=MAC, address=V6) == (bytes.fromhex(text.replace("CCCC", f"{checksum:04x}")),)


@given(MACS, st.ip_addresses(v=6))
def test_every_advertisement_sums_to_zero(mac: bytes, address: IPv6Address) -> None:
    (frame,) = announcements(mac=mac, address=address)
    assert textbook_checksum(pseudo_header(frame[14:]) + frame[54:]) == 0
    assert len(frame) == 14 + 40 + 32


@given(MACS, st.ip_addresses())
def test_every_announcement_comes_from_our_mac_and_names_it(mac: bytes, address: IPv4Address | IPv6Address) -> None:
    frames = announcements(mac=mac, address=address)
    assert len(frames) == (2 if address.version == 4 else 1)
    for frame in frames:
        assert frame[6:12] == mac
        assert frame[0] & 1  # to a group
        assert mac in frame[14:]
        assert address.packed in frame[14:]


FIELDS = (
    "arp.opcode",
    "arp.isgratuitous",
    "arp.src.hw_mac",
    "arp.src.proto_ipv4",
    "arp.dst.hw_mac",
    "arp.dst.proto_ipv4",
    "ipv6.hlim",
    "ipv6.dst",
    "icmpv6.type",
    "icmpv6.checksum.status",
    "icmpv6.nd.na.flag.s",
    "icmpv6.nd.na.flag.o",
    "icmpv6.nd.na.flag.r",
    "icmpv6.nd.na.target_address",
    "icmpv6.opt.linkaddr",
    "_ws.malformed",
)


def dissect(frames: tuple[bytes, ...], path: Path) -> list[list[str]]:
    """Return one row of FIELDS per frame, as tshark reads them from a capture."""
    tshark = shutil.which("tshark")
    if tshark is None:
        pytest.skip("NO TSHARK, so its reading of our frames is not tested: as root on Debian, `make system-packages`")
    path.write_bytes(pcap(frames))
    command = [tshark, "-n", "-r", str(path), "-T", "fields"]
    command += [argument for field in FIELDS for argument in ("-e", field)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    plain = done.stdout.replace("True", "1").replace("False", "0")  # versions differ in how they write flags
    return [line.split("\t") for line in plain.splitlines()]


def test_tshark_reads_what_we_mean(tmp_path: Path) -> None:
    frames = announcements(mac=MAC, address=V4) + announcements(mac=MAC, address=V6)
    rows = [dict(zip(FIELDS, row, strict=True)) for row in dissect(frames, tmp_path / "frames.pcap")]
    said = [{field: value for field, value in row.items() if value} for row in rows]
    mac = "02:a1:b2:c3:d4:e5"
    request = {
        "arp.opcode": "1",
        "arp.isgratuitous": "1",
        "arp.src.hw_mac": mac,
        "arp.src.proto_ipv4": str(V4),
        "arp.dst.hw_mac": "00:00:00:00:00:00",
        "arp.dst.proto_ipv4": str(V4),
    }
    assert said == [
        request,
        request | {"arp.opcode": "2", "arp.dst.hw_mac": mac},
        {
            "ipv6.hlim": "255",
            "ipv6.dst": "ff02::1",
            "icmpv6.type": "136",
            "icmpv6.checksum.status": "1",  # good
            "icmpv6.nd.na.flag.s": "0",
            "icmpv6.nd.na.flag.o": "1",
            "icmpv6.nd.na.flag.r": "0",
            "icmpv6.nd.na.target_address": str(V6),
            "icmpv6.opt.linkaddr": mac,
        },
    ]
