"""Probes bit for bit, and who they say has an address."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from hypothesis import given
from hypothesis import strategies as st

from sidecar.net.neighbor import announcements
from sidecar.net.probe import owner, probe
from sidecar.protocol.packet import internet_checksum

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
    assert probe(mac=MAC, address=V4) == bytes.fromhex(ARP_PROBE)


def test_a_neighbour_solicitation_without_a_source() -> None:
    frame = probe(mac=MAC, address=V6)
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
        assert owner(probe(mac=OTHER, address=address), address) is None


@given(st.binary(max_size=90))
def test_nonsense_claims_nothing(frame: bytes) -> None:
    assert owner(frame, V4) is None
    assert owner(frame, V6) is None
