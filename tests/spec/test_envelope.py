"""The packet around an advert: what we send, what the others send, and what a receiver asks of it (facts by capture
and by source: ``carp_send_ad`` and ``carp_proto_input_if`` of the BSDs; ucarp's carp.c and its BPF filter)."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import msgspec
import pytest

from sidecar.capture.files import frames
from sidecar.ipc.plan import PathPlan
from sidecar.protocol.types import CARP_GROUP, DropReason
from tests.fakes.captures import CAPTURES
from tests.fakes.engine import MAC
from tests.fakes.node import ENOUGH, load_on_node, mistakes
from tests.fakes.plans import PATH4, PATH6
from tests.fakes.station import StartStation, Station, is_advert
from tests.fakes.wire import CARP_GROUP6, PEER, advert, ipv4, ipv6, rfc1071, sealed

OURS, OURS6 = IPv4Address("10.0.0.11"), IPv6Address("fe80::11")
OTHER_GROUP = IPv4Address("224.0.0.77")
TOS_LOWDELAY = 0x10


def sent(ours: Station) -> bytes:
    """Return the next advert as an Ethernet frame."""
    ours.become_master()
    ours.pass_time(ours.runner.group.interval)
    return next(frame for frame in ours.frames() if is_advert(frame))


# What we send --------------------------------------------------------------------------------------------------------


def test_by_multicast_the_mac_is_01_00_5e_00_00_12_and_the_ip_224_0_0_18(station: StartStation) -> None:
    frame = sent(station())
    assert frame[:6] == bytes.fromhex("01005e000012")
    assert frame[30:34] == CARP_GROUP.packed


@pytest.mark.parametrize(
    ("group", "mac"),
    [("224.0.0.77", "01005e00004d"), ("239.129.2.3", "01005e010203"), ("224.128.0.18", "01005e000012")],
)
def test_another_group_has_its_own_mac_as_with_ucarps_mcast(station: StartStation, group: str, mac: str) -> None:
    """RFC 1112, section 6.4: the low 23 bits."""
    frame = sent(station(multicast_group=group))
    assert frame[:6] == bytes.fromhex(mac)
    assert frame[30:34] == IPv4Address(group).packed


@pytest.mark.parametrize("group", ["224.0.0.18", "224.0.0.77"])
def test_broadcast_changes_only_the_mac_as_ucarps_nomcast_does(station: StartStation, group: str) -> None:
    frame = sent(station(transport="broadcast", multicast_group=group))
    assert frame[:6] == b"\xff" * 6
    assert frame[30:34] == IPv4Address(group).packed


def test_by_unicast_each_peer_gets_its_own_packet_as_with_openbsds_carppeer_and_freebsds_peer(
    station: StartStation,
) -> None:
    ours = station(transport="unicast", peers=("10.0.0.12", "10.0.0.13"))
    ours.become_master()
    ours.routed()
    ours.pass_time(1.0)
    routed = ours.routed()
    assert [to for to, _ in routed] == ["10.0.0.12", "10.0.0.13"]
    assert [packet[16:20] for _, packet in routed] == [bytes((10, 0, 0, last)) for last in (12, 13)]
    assert {packet[20:] for _, packet in routed} == {routed[0][1][20:]}


def test_the_frame_comes_from_the_nics_own_mac(station: StartStation) -> None:
    """The BSDs send from 00:00:5e:00:01:VHID, ucarp from 00:00:5e:00:00:VHID; nobody looks at it."""
    assert sent(station())[6:12] == MAC


def test_the_ip_header_is_that_of_ucarp_and_openbsd(station: StartStation) -> None:
    packet = sent(station())[14:]
    assert packet[0] == 0x45
    assert packet[1] == TOS_LOWDELAY
    assert int.from_bytes(packet[2:4], "big") == 20 + 36 == len(packet)
    assert packet[6:8] == b"\x40\x00"  # don't fragment
    assert packet[8] == 255
    assert packet[9] == 112
    assert packet[12:16] == OURS.packed
    assert rfc1071(packet[:20]) == 0


def test_the_identification_differs_from_advert_to_advert(station: StartStation) -> None:
    ours = station()
    ours.become_master()
    ours.pass_time(5.0)
    seen = [frame[18:20] for frame in ours.frames() if is_advert(frame)]
    assert len(set(seen)) == len(seen) == 5


def test_ucarp_sums_the_ip_and_the_carp_header_together_and_finds_ours_right(station: StartStation) -> None:
    assert rfc1071(sent(station())[14:]) == 0


# What we send over IPv6 ----------------------------------------------------------------------------------------------


def test_over_ipv6_the_mac_is_33_33_00_00_00_12_and_the_ip_ff02_12(station: StartStation) -> None:
    frame = sent(station(paths=(PATH6,)))
    assert frame[:14] == bytes.fromhex("333300000012") + MAC + b"\x86\xdd"
    assert frame[38:54] == CARP_GROUP6.packed


def test_the_ipv6_header_is_that_of_openbsd(station: StartStation) -> None:
    packet = sent(station(paths=(PATH6,)))[14:]
    assert packet[:4] == bytes((0x60, 0, 0, 0))  # traffic class 0
    assert packet[4:8] == bytes((0, 36, 112, 255))
    assert packet[8:24] == OURS6.packed
    assert len(packet) == 40 + 36


def test_a_group_of_both_families_advertises_over_both_each_time(station: StartStation) -> None:
    ours = station(paths=(PATH4, PATH6))
    ours.become_master()
    ours.pass_time(3.0)
    assert [frame[12:14].hex() for frame in ours.frames() if is_advert(frame)] == ["0800", "86dd"] * 3


def test_what_is_said_over_both_is_the_same(station: StartStation) -> None:
    """Each with a counter of its own."""
    ours = station(paths=(PATH4, PATH6), advskew=7)
    ours.become_master()
    ours.pass_time(2.0)
    first, second = ours.adverts()
    assert replace(first, counter=0, mac=b"", checksum=0) == replace(second, counter=0, mac=b"", checksum=0)
    assert first.counter != second.counter


# What the others send ------------------------------------------------------------------------------------------------

ENVELOPES: dict[str, dict[str, Any]] = {
    "ucarp": {"tos": TOS_LOWDELAY, "identification": 0x28A5, "fragment": 0x4000},
    "openbsd": {"tos": TOS_LOWDELAY, "identification": 0xBEEF, "fragment": 0x4000},
    "freebsd": {"tos": 0xE0, "identification": 0, "fragment": 0x4000},
    "freebsd-9": {"tos": TOS_LOWDELAY, "identification": 0, "fragment": 0x4000},
    "freebsd-dscp-0": {"tos": 0, "identification": 0, "fragment": 0x4000},
    "netbsd": {"tos": TOS_LOWDELAY, "identification": 0, "fragment": 0x4000},
    "without-df": {"tos": 0, "identification": 1, "fragment": 0},
    "freebsd-or-netbsd-without-an-address": {"identification": 0, "source": IPv4Address("0.0.0.0")},
    "from-another-subnet": {"source": IPv4Address("192.0.2.1")},
}


@pytest.mark.parametrize("sender", ENVELOPES)
def test_every_implementations_envelope_is_accepted(station: StartStation, sender: str) -> None:
    """ucarp's -s is not validated either, so a source from elsewhere is a source."""
    assert station().hear(ipv4(advert(), **ENVELOPES[sender])) is None


@pytest.mark.parametrize("traffic_class", [0, 0xE0], ids=["openbsd", "freebsd"])
@pytest.mark.parametrize("flow_label", [0, 0x12345])
def test_openbsds_and_freebsds_ipv6_envelope_is_accepted(
    station: StartStation, traffic_class: int, flow_label: int
) -> None:
    packet = ipv6(advert(), traffic_class=traffic_class, flow_label=flow_label)
    assert station(paths=(PATH4, PATH6)).hear(packet) is None


REAL = {
    "01-start-master.pcap": 3,
    "05-broadcast-M.pcap": 9,
    "bsd-01-ucarp-master-bsd-backup-takeover.pcap": 13,
    "bsd-03-bsd-preempts-ucarp.pcap": 11,
}
"""Captures and their adverts: of ucarp, its --nomcast, and NetBSD, each from a source MAC of its own."""


@pytest.mark.parametrize("name", REAL)
def test_every_advert_that_a_real_one_sent_is_accepted(station: StartStation, name: str) -> None:
    ours = station(vips=("10.77.0.100/32",), source="10.77.0.9", key=b"secret".ljust(20, b"\0"))
    with (CAPTURES / name).open("rb") as file:
        adverts = [frame.data[14:] for frame in frames(file) if is_advert(frame.data)]
    assert [ours.hear(packet) for packet in adverts] == [None] * REAL[name]


# What a receiver asks of it ------------------------------------------------------------------------------------------

TRANSPORTS: dict[str, tuple[dict[str, Any], IPv4Address]] = {
    "multicast": ({}, CARP_GROUP),
    "broadcast": ({"transport": "broadcast"}, CARP_GROUP),
    "unicast": ({"transport": "unicast", "peers": (str(PEER),)}, OURS),
}
every_transport = pytest.mark.parametrize(("plan", "destination"), TRANSPORTS.values(), ids=TRANSPORTS)


@every_transport
@pytest.mark.parametrize("ttl", [0, 1, 64, 254])
def test_the_ttl_must_be_255(station: StartStation, plan: dict[str, Any], destination: IPv4Address, ttl: int) -> None:
    """By unicast too, where FreeBSD lets anything pass, as its 2023 code does for IPv4 on little-endian machines."""
    packet = ipv4(advert(), destination=destination, ttl=ttl)
    assert station(**plan).hear(packet) is DropReason.BAD_TTL


@every_transport
def test_with_ttl_255_it_is_heard(station: StartStation, plan: dict[str, Any], destination: IPv4Address) -> None:
    assert station(**plan).hear(ipv4(advert(), destination=destination)) is None


@every_transport
def test_our_own_source_address_is_not_heard(
    station: StartStation, plan: dict[str, Any], destination: IPv4Address
) -> None:
    """ucarp's BPF and code look for it."""
    packet = ipv4(advert(), destination=destination, source=OURS)
    assert station(**plan).hear(packet) is DropReason.OWN_ECHO


@pytest.mark.parametrize("group", [CARP_GROUP, OTHER_GROUP])
def test_the_destination_must_be_the_groups_multicast_address(station: StartStation, group: IPv4Address) -> None:
    ours = station(multicast_group=str(group))
    other = OTHER_GROUP if group == CARP_GROUP else CARP_GROUP
    assert ours.hear(ipv4(advert(), destination=group)) is None
    assert ours.hear(ipv4(advert(), destination=other)) is DropReason.WRONG_DESTINATION
    assert ours.hear(ipv4(advert(), destination=IPv4Address("255.255.255.255"))) is DropReason.WRONG_DESTINATION


def test_unicast_is_heard_by_everybody_and_multicast_only_where_it_is_configured(station: StartStation) -> None:
    """OpenBSD asks for the configured kind of both; here a master answers a rival by unicast too, who may be deaf."""
    multicast, unicast = station(), station(transport="unicast", peers=(str(PEER),))
    assert multicast.hear(ipv4(advert(), destination=OURS)) is None
    assert unicast.hear(ipv4(advert())) is DropReason.WRONG_DESTINATION


def test_unicast_to_another_host_is_not_for_us(station: StartStation) -> None:
    unicast = station(transport="unicast", peers=(str(PEER),))
    assert unicast.hear(ipv4(advert(), destination=PEER + 1)) is DropReason.WRONG_DESTINATION
    assert unicast.hear(ipv4(advert(), destination=OURS), ours=False) is DropReason.WRONG_DESTINATION


@pytest.mark.parametrize("hop_limit", [0, 1, 64, 254])
def test_the_hop_limit_must_be_255(station: StartStation, hop_limit: int) -> None:
    ours = station(paths=(PATH4, PATH6))
    assert ours.hear(ipv6(advert(), hop_limit=hop_limit)) is DropReason.BAD_TTL


def test_over_ipv6_the_same_is_asked_of_source_and_destination(station: StartStation) -> None:
    ours = station(paths=(PATH4, PATH6))
    assert ours.hear(ipv6(advert(), source=OURS6)) is DropReason.OWN_ECHO
    assert ours.hear(ipv6(advert(), destination=IPv6Address("ff02::1"))) is DropReason.WRONG_DESTINATION
    assert ours.hear(ipv6(advert(), destination=OURS6)) is None
    unicast = station(paths=(msgspec.structs.replace(PATH6, peers=("fe80::12",)),), transport="unicast")
    assert unicast.hear(ipv6(advert())) is DropReason.WRONG_DESTINATION
    assert unicast.hear(ipv6(advert(), destination=OURS6)) is None


@pytest.mark.parametrize(
    ("path", "packet"), [(PATH4, ipv6(advert())), (PATH6, ipv4(advert()))], ids=["ipv6-to-ipv4", "ipv4-to-ipv6"]
)
def test_a_family_that_the_group_does_not_speak_is_not_heard(
    station: StartStation, path: PathPlan, packet: bytes
) -> None:
    """NetBSD and ucarp send over IPv4 only, OpenBSD and FreeBSD over each family in which they have an address."""
    assert station(paths=(path,)).hear(packet) is DropReason.WRONG_DESTINATION


def test_the_ip_headers_checksum_must_be_right_by_itself(station: StartStation) -> None:
    """ucarp makes one sum over both headers, in which two faults can make up for each other."""
    packet = bytearray(ipv4(advert()))
    packet[4] ^= 0x01  # the identification rises or falls by 256 ...
    packet[20 + 6] = (packet[20 + 6] + (1 if not packet[4] & 1 else -1)) % 256  # ... and CARP's checksum the other way
    assert rfc1071(bytes(packet)) == 0
    assert station().hear(bytes(packet)) is DropReason.BAD_IP_HEADER


@pytest.mark.parametrize("fragment", [0x2000, 0x0001, 0x3FFF])
def test_fragments_are_not_heard(station: StartStation, fragment: int) -> None:
    """Nobody sends any; a packet socket would get the pieces."""
    assert station().hear(ipv4(advert(), fragment=fragment)) is DropReason.FRAGMENT


def test_the_vhid_must_be_one_of_ours(station: StartStation) -> None:
    assert station().hear(ipv4(advert(vhid=43))) is DropReason.UNKNOWN_VHID


def test_each_of_several_faults_is_named_in_the_order_of_carp_proto_input(station: StartStation) -> None:
    """Protocol, IP header, TTL, length, version, checksum, vhid, destination, HMAC."""
    ours = station()
    foreign = advert(vhid=43, mac=bytes(20))
    assert ours.hear(ipv4(sealed(foreign), destination=OTHER_GROUP)) is DropReason.UNKNOWN_VHID
    bad_sum = foreign[:6] + bytes((foreign[6] ^ 1,)) + foreign[7:]
    assert ours.hear(ipv4(bad_sum, destination=OTHER_GROUP)) is DropReason.BAD_CHECKSUM
    bad_version = b"\x31" + bad_sum[1:]
    assert ours.hear(ipv4(bad_version)) is DropReason.BAD_VERSION
    assert ours.hear(ipv4(bad_version[:30])) is DropReason.TRUNCATED
    assert ours.hear(ipv4(bad_version[:30], ttl=1)) is DropReason.BAD_TTL
    assert ours.hear(ipv4(bad_version[:30], ttl=1, fragment=1)) is DropReason.FRAGMENT
    assert ours.hear(ipv4(bad_version[:30], ttl=1, fragment=1, protocol=17)) is DropReason.NOT_CARP
    assert ours.hear(ipv4(advert(mac=bytes(20)), destination=OTHER_GROUP)) is DropReason.WRONG_DESTINATION


# Where the source address comes from ---------------------------------------------------------------------------------


def source_of(**environ: str) -> str:
    (group,) = load_on_node({**ENOUGH, **environ}).plan.groups
    return group.paths[0].source


def test_our_source_is_the_first_address_of_the_nic_as_with_openbsd() -> None:
    assert source_of(CARP_INTERFACE="eth0") == "10.0.0.11"


def test_without_an_address_there_is_no_advert_where_freebsd_and_netbsd_send_from_0_0_0_0() -> None:
    """Several of them would look like one node."""
    assert mistakes({**ENOUGH, "CARP_INTERFACE": "bare"})


def test_a_source_that_is_not_the_nics_is_used_as_ucarps_s_is_but_not_without_a_word() -> None:
    set_by_hand = {**ENOUGH, "CARP_INTERFACE": "eth0", "CARP_SOURCE_ADDRESS": "10.0.0.13"}
    loaded = load_on_node(set_by_hand)
    assert loaded.plan.groups[0].paths[0].source == "10.0.0.13"
    assert "10.0.0.13 is not an address of eth0" in loaded.warnings[0]


def test_over_ipv6_our_source_is_the_nics_link_local_address() -> None:
    """As with the BSDs' choice for a link-local destination (RFC 6724, rule 2)."""
    assert source_of(CARP_INTERFACE="eth0", CARP_ADDRESS_FAMILY="ipv6") == "fe80::1"
