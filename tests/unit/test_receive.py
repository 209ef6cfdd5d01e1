"""Every reason for which a packet changes nothing, and which one is named where several apply."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.engine.receive import Arrival, authenticate, find, read
from sidecar.net.sockets import Frame
from sidecar.protocol.auth import Authenticator, key_from_password
from sidecar.protocol.packet import PacketError, unpack
from sidecar.protocol.types import CARP_GROUP, DropReason, IPAddress
from tests.fakes.captures import COUNTER, PASSWORD, VIP, advert, ipv4
from tests.unit.test_vrrp import VRRP2, VRRP3

SENDER = IPv4Address("10.77.0.1")  # what the builder puts into every IP header
OWN = IPv4Address("10.77.0.2")
AUTHENTICATOR = Authenticator(key=key_from_password(PASSWORD), vhid=42, addresses=[VIP])


@dataclass
class Group:
    """What ``authenticate`` has to know."""

    source: IPAddress = OWN
    destination: IPAddress = CARP_GROUP
    authenticators: tuple[Authenticator, ...] = (AUTHENTICATOR,)

    def path(self, version: int) -> Group | None:
        return self if version == self.source.version else None


def judge(packet: bytes, *, ours: bool = True, group: Group | None = None, vhid: int = 42) -> DropReason | None:
    """Return the reason for which the engine drops this IPv4 packet, or None where it takes it."""
    try:
        arrival = read(Frame(packet, ours))
        authenticate(arrival, find(arrival, {vhid: group or Group()}))
    except PacketError as error:
        return error.reason
    return None


def with_byte(data: bytes, at: int, value: int) -> bytes:
    return data[:at] + bytes((value,)) + data[at + 1 :]


def test_a_sound_advert_is_taken() -> None:
    arrival = read(Frame(ipv4(advert()), ours=True))
    assert arrival == Arrival(source=SENDER, destination=CARP_GROUP, header=unpack(advert()))
    group = Group()
    assert find(arrival, {41: Group(), 42: group}) is group
    authenticate(arrival, group)
    assert (arrival.header.vhid, arrival.header.advbase, arrival.header.advskew) == (42, 1, 100)
    assert (arrival.header.demotion, arrival.header.counter) == (3, COUNTER)


def test_padding_and_ip_options_do_no_harm() -> None:
    assert judge(ipv4(advert()) + bytes(10)) is None
    assert judge(ipv4(advert(), options=b"\x94\x04\0\0")) is None  # router alert


# Each with the fault that it stands for; in the order in which they are looked for.
FAULTS: dict[DropReason, Callable[[], DropReason | None]] = {
    DropReason.NOT_CARP: lambda: judge(ipv4(advert(), protocol=17)),
    DropReason.TRUNCATED: lambda: judge(ipv4(advert())[:-1]),
    DropReason.BAD_IP_HEADER: lambda: judge(with_byte(ipv4(advert()), 10, 0)),
    DropReason.FRAGMENT: lambda: judge(ipv4(advert(), fragment=0x2000)),
    DropReason.WRONG_DESTINATION: lambda: judge(ipv4(advert()), ours=False),
    DropReason.BAD_TTL: lambda: judge(ipv4(advert(), ttl=254)),
    DropReason.BAD_VERSION: lambda: judge(ipv4(with_byte(advert(), 0, 0x31))),
    DropReason.BAD_CHECKSUM: lambda: judge(ipv4(with_byte(advert(), 6, advert()[6] ^ 1))),
    DropReason.UNKNOWN_VHID: lambda: judge(ipv4(advert()), vhid=43),
    DropReason.OWN_ECHO: lambda: judge(ipv4(advert()), group=Group(source=SENDER)),
    DropReason.BAD_HMAC: lambda: judge(ipv4(advert(password=b"wrong"))),
}


@pytest.mark.parametrize("packet", [ipv4(advert(), ttl=1), ipv4(b""), ipv4(advert()[:-1])])
def test_whoever_sent_a_packet_with_a_fault_is_named(packet: bytes) -> None:
    with pytest.raises(PacketError) as caught:
        read(Frame(packet, ours=True))
    assert caught.value.source == SENDER


def test_whoever_sent_an_advert_of_another_group_is_named() -> None:
    with pytest.raises(PacketError) as caught:
        find(read(Frame(ipv4(advert()), ours=True)), {})
    assert caught.value.source == SENDER


@pytest.mark.parametrize("reason", FAULTS, ids=lambda reason: reason.value)
def test_every_fault_has_its_own_reason(reason: DropReason) -> None:
    assert FAULTS[reason]() is reason


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (b"", DropReason.TRUNCATED),
        (ipv4(advert())[:19], DropReason.TRUNCATED),
        (ipv4(advert()[:35]), DropReason.TRUNCATED),
        (ipv4(b""), DropReason.TRUNCATED),
        (with_byte(ipv4(advert()), 0, 0x55), DropReason.BAD_IP_HEADER),
        (with_byte(ipv4(advert()), 0, 0x44), DropReason.BAD_IP_HEADER),
        (ipv4(advert(), fragment=0x0001), DropReason.FRAGMENT),
        (ipv4(advert(), ttl=1), DropReason.BAD_TTL),
    ],
    ids=["nothing", "ip-header-cut", "carp-header-cut", "no-payload", "ip-version", "ip-length", "offset", "ttl-1"],
)
def test_other_forms_of_the_same_faults(packet: bytes, reason: DropReason) -> None:
    assert judge(packet) is reason


def test_an_advert_to_another_multicast_group_is_not_for_us() -> None:
    assert judge(ipv4(advert()), group=Group(destination=IPv4Address("224.0.0.19"))) is DropReason.WRONG_DESTINATION


def test_the_first_fault_in_the_order_of_the_checks_is_named() -> None:
    """Layer by layer, each packet has all the faults of those below it."""
    bad_hmac = advert(password=b"wrong")
    bad_checksum = with_byte(bad_hmac, 6, bad_hmac[6] ^ 1)
    bad_version = with_byte(bad_checksum, 0, 0x31)
    stranger, echo = Group(destination=IPv4Address("224.0.0.19"), source=SENDER), Group(source=SENDER)
    assert judge(ipv4(bad_hmac), group=echo) is DropReason.OWN_ECHO
    assert judge(ipv4(bad_hmac), group=stranger) is DropReason.WRONG_DESTINATION
    assert judge(ipv4(bad_hmac), group=stranger, vhid=7) is DropReason.UNKNOWN_VHID
    assert judge(ipv4(bad_checksum), group=stranger, vhid=7) is DropReason.BAD_CHECKSUM
    assert judge(ipv4(bad_version), group=stranger, vhid=7) is DropReason.BAD_VERSION
    assert judge(ipv4(bad_version[:20], ttl=9)) is DropReason.BAD_TTL
    assert judge(ipv4(bad_version, ttl=9), ours=False) is DropReason.WRONG_DESTINATION
    assert judge(ipv4(bad_version, ttl=9, fragment=0x2000), ours=False) is DropReason.FRAGMENT
    assert judge(with_byte(ipv4(bad_version, ttl=9, fragment=0x2000), 10, 0), ours=False) is DropReason.BAD_IP_HEADER
    assert judge(ipv4(bad_version, ttl=9)[:-1], ours=False) is DropReason.TRUNCATED
    assert judge(ipv4(bad_version, ttl=9, protocol=6)[:-1], ours=False) is DropReason.NOT_CARP


def test_the_message_names_the_numbers() -> None:
    arrival = read(Frame(ipv4(advert(vhid=9)), ours=True))
    with pytest.raises(PacketError, match=r"^vhid 9 is not ours$"):
        find(arrival, {42: Group()})
    with pytest.raises(PacketError, match=r"^sent to 224\.0\.0\.18, not 224\.0\.0\.19$"):
        authenticate(arrival, Group(destination=IPv4Address("224.0.0.19")))


@given(st.binary(max_size=120), st.booleans())
def test_no_bytes_are_taken_or_raise_anything_else(data: bytes, ours: bool) -> None:
    assert judge(data, ours=ours) is not None


@given(st.binary(max_size=60))
def test_no_payload_of_carps_protocol_is_taken_or_raises_anything_else(payload: bytes) -> None:
    assert judge(ipv4(payload)) is not None


@given(at=st.integers(0, 55), change=st.integers(1, 255))
def test_a_wrong_byte_is_noticed_wherever_it_is(at: int, change: int) -> None:
    packet = ipv4(advert())
    assert judge(with_byte(packet, at, packet[at] ^ change)) is not None


def test_a_valid_mac_of_another_group_is_worth_nothing() -> None:
    arrival = read(Frame(ipv4(advert(vhid=7)), ours=True))
    forged = replace(arrival, header=replace(arrival.header, vhid=42))
    with pytest.raises(PacketError) as caught:
        authenticate(forged, Group())
    assert caught.value.reason is DropReason.BAD_HMAC


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (VRRP2[1], "VRRPv2 router 51, not CARP: 20 bytes where a CARP header takes 36"),
        (VRRP3[1], "VRRPv3 router 53, not CARP: 12 bytes where a CARP header takes 36"),
        (advert()[:20], "20 bytes where a CARP header takes 36"),
    ],
)
def test_vrrp_is_dropped_as_what_it_is_not_and_named_as_what_it_is(payload: bytes, said: str) -> None:
    with pytest.raises(PacketError) as caught:
        read(Frame(ipv4(payload), ours=True))
    assert (str(caught.value), caught.value.reason, caught.value.source) == (said, DropReason.TRUNCATED, SENDER)
