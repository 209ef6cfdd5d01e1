"""Packet sockets: what the kernel's filter lets through, and what becomes of errors."""

from __future__ import annotations

import errno
import os
import select
import socket
import threading
import time
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest

from sidecar.net import sockets
from sidecar.net.inquiry import question
from sidecar.net.neighbor import announcements
from sidecar.net.sockets import ETHERTYPES, Family, Frame
from sidecar.protocol.packet import build_ipv4, build_ipv6
from sidecar.protocol.types import IPAddress
from tests.fakes.captures import advert, ethernet, ipv4, ipv6
from tests.fakes.namespace import cable, in_new_network, ip

NEAR_MAC = bytes.fromhex("020000000001")
ADVERT = ipv4(advert())
PACKETS: dict[Family, bytes] = {4: ADVERT, 6: ipv6(advert())}
FAMILIES: tuple[Family, ...] = (4, 6)
GROUPS: dict[Family, IPAddress] = {4: IPv4Address("224.0.0.18"), 6: IPv6Address("ff02::12")}

each_family = pytest.mark.parametrize("family", FAMILIES)
SO_DETACH_FILTER = 27


@pytest.mark.parametrize(
    ("group", "mac"),
    [
        ("224.0.0.18", "01:00:5e:00:00:12"),
        ("224.128.0.18", "01:00:5e:00:00:12"),  # 23 of the 28 bits fit
        ("239.255.255.255", "01:00:5e:7f:ff:ff"),
        ("225.1.2.3", "01:00:5e:01:02:03"),
        ("ff02::12", "33:33:00:00:00:12"),
        ("ff05::1:fedc:ba98", "33:33:fe:dc:ba:98"),
    ],
)
def test_the_mac_of_a_multicast_group_has_its_low_23_or_32_bits(group: str, mac: str) -> None:
    assert sockets.multicast_mac(ip_address(group)).hex(":") == mac


# On a real kernel ----------------------------------------------------------------------------------------------------


Wire = tuple[socket.socket, socket.socket]


def open_wire(family: Family) -> Wire:
    """The packet socket under test on one end of a cable, and a plain one on the other."""

    def build() -> Wire:
        cable()
        far = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        far.bind(("far", 0x0003))
        return sockets.open_packet_socket("near", family), far

    return in_new_network(build)


@pytest.fixture
def wire(real_kernel: None) -> Iterator[Wire]:  # noqa: ARG001 - it skips
    near, far = open_wire(4)
    with near, far:
        yield near, far


@pytest.fixture
def wire6(real_kernel: None) -> Iterator[Wire]:  # noqa: ARG001 - it skips
    near, far = open_wire(6)
    with near, far:
        yield near, far


def next_frame(sock: socket.socket) -> Frame | None:
    readable, _, _ = select.select([sock], [], [], 10)
    assert readable, "nothing came"
    return sockets.receive(sock)


def next_ethernet(sock: socket.socket) -> bytes | None:
    readable, _, _ = select.select([sock], [], [], 10)
    assert readable, "nothing came"
    return sockets.receive_ethernet(sock)


@pytest.mark.netns
def test_only_carp_over_ipv4_passes_the_filter(wire: Wire) -> None:
    near, far = wire
    others = [
        ethernet(ipv4(advert(), protocol=17)),
        ethernet(ipv4(advert(), protocol=2)),
        ethernet(ADVERT, 0x86DD),
        ethernet(ADVERT, 0x0806),
        ethernet(b"\x45"),
        ethernet(b""),
        ethernet(b"\0" * 9 + b"\x70", 0x0806),
    ]
    for frame in others:
        far.send(frame)
    far.send(ethernet(ADVERT))
    assert next_frame(near) == Frame(ADVERT, ours=True)
    assert sockets.receive(near) is None


@pytest.mark.netns
def test_only_carp_over_ipv6_passes_the_filter(wire6: Wire) -> None:
    near, far = wire6
    advert6 = ipv6(advert())
    others = [
        ethernet(ipv6(advert(), next_header=58), 0x86DD),
        ethernet(ipv6(bytes((112, 0)) + bytes(6) + advert(), next_header=0), 0x86DD),
        ethernet(ADVERT),
        ethernet(advert6, 0x0800),
        ethernet(advert6, 0x0806),
        ethernet(b"\x60", 0x86DD),
        ethernet(b"", 0x86DD),
    ]
    for frame in others:
        far.send(frame)
    far.send(ethernet(advert6, 0x86DD))
    assert next_frame(near) == Frame(advert6, ours=True)
    assert sockets.receive(near) is None


@pytest.mark.netns
@pytest.mark.parametrize(
    ("destination", "ours"),
    [("01005e000012", True), ("ffffffffffff", True), ("020000000001", True), ("020000000009", False)],
)
def test_it_is_told_whether_a_frame_was_meant_for_this_host(wire: Wire, destination: str, ours: bool) -> None:
    near, far = wire
    far.send(bytes.fromhex(destination) + ethernet(ADVERT)[6:])
    assert next_frame(near) == Frame(ADVERT, ours=ours)


@pytest.mark.netns
def test_frames_leave_as_they_are_and_are_not_heard_by_ourselves(wire: Wire) -> None:
    near, far = wire
    frame = ethernet(ADVERT)
    assert sockets.send(near, frame) is None
    far.settimeout(10)
    assert far.recv(2048) == frame
    assert sockets.receive(near) is None


@pytest.mark.netns
def test_the_filter_is_locked(wire: Wire) -> None:
    with pytest.raises(PermissionError):
        wire[0].setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)


@pytest.mark.netns
@pytest.mark.usefixtures("real_kernel")
def test_an_interface_that_goes_down_or_away_is_no_exception() -> None:
    def scene() -> list[object]:
        cable()
        with sockets.open_packet_socket("near", 4) as near:
            ip("link set near down")
            said: list[object] = [sockets.receive(near), sockets.receive(near), sockets.send(near, ethernet(ADVERT))]
            ip("link set near up")
            said.append(sockets.receive(near))
            ip("link delete near")
            said += [sockets.receive(near), sockets.send(near, ethernet(ADVERT))]
        return said

    assert in_new_network(scene) == [
        None,
        None,
        "Network is down",
        None,
        None,
        "No such device or address",
    ]


@pytest.mark.netns
@pytest.mark.usefixtures("real_kernel")
def test_an_interface_that_is_not_there_is_an_error() -> None:
    with pytest.raises(OSError, match="No such device") as caught:
        in_new_network(lambda: sockets.open_packet_socket("none", 4))
    assert caught.value.errno == errno.ENODEV


@pytest.mark.netns
@pytest.mark.usefixtures("real_kernel")
@each_family
def test_a_membership_lasts_as_long_as_its_socket(family: Family) -> None:
    def groups() -> str:
        return ip("maddress show dev near")

    def scene() -> tuple[str, str, str]:
        cable()
        before = groups()
        with sockets.join(index=socket.if_nametoindex("near"), group=GROUPS[family]):
            during = groups()
        return before, during, groups()

    before, during, after = in_new_network(scene)
    assert str(GROUPS[family]) in during
    assert sockets.multicast_mac(GROUPS[family]).hex(":") in during
    assert str(GROUPS[family]) not in before + after


@pytest.mark.netns
@pytest.mark.usefixtures("real_kernel")
@each_family
def test_a_group_on_an_interface_that_is_not_there_cannot_be_joined(family: Family) -> None:
    with pytest.raises(OSError, match="No such device"):
        in_new_network(lambda: sockets.join(index=999, group=GROUPS[family]))


UNICAST = [(4, "10.77.0.1", "10.77.0.2"), (6, "fe80::1", "fe80::2"), (6, "2001:db8::1", "2001:db8::2")]


def unicast_datagram(source: IPAddress, destination: IPAddress) -> bytes:
    if isinstance(source, IPv4Address) and isinstance(destination, IPv4Address):
        return build_ipv4(source=source, destination=destination, identification=7, payload=advert())
    assert isinstance(source, IPv6Address)
    assert isinstance(destination, IPv6Address)
    return build_ipv6(source=source, destination=destination, payload=advert())


def two_hosts(family: Family, near: str, far: str, *, listening: bool) -> tuple[socket.socket, socket.socket]:
    """Join two namespaces, the caller's and a new one; return the near raw socket and one that keeps the far end there.

    The latter is a raw socket, too, if the far end is ``listening``.
    """
    here = f"/proc/{os.getpid()}/task/{threading.get_native_id()}/ns/net"
    extra = "nodad" if family == 6 else ""

    def build() -> socket.socket:
        ip(f"link add far type veth peer name near netns {here}")
        ip(f"address add {far}/24 dev far {extra}")
        ip("link set far up")
        return sockets.open_raw_socket("far", family) if listening else socket.socket()

    far_end = in_new_network(build)
    ip(f"address add {near}/24 dev near {extra}")
    ip("link set near up")
    return sockets.open_raw_socket("near", family), far_end


def wait_for_the_far_kernel(family: Family, address: str) -> None:
    """It refuses a UDP datagram once the cable is ready, and once it has answered all that came before."""
    scope = socket.if_nametoindex("near") if family == 6 else 0
    for _ in range(200):
        with socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.settimeout(1)
            try:
                sock.connect((address, 9) if family == 4 else (address, 9, 0, scope))
                sock.send(b"")
                sock.recv(1)
            except ConnectionRefusedError:
                return
            except OSError:  # no answer yet, or no route yet
                time.sleep(0.05)
    pytest.fail("the far kernel does not answer")


@pytest.mark.netns
@pytest.mark.usefixtures("real_kernel")
@pytest.mark.parametrize(("family", "source", "destination"), UNICAST)
@pytest.mark.parametrize("listening", [True, False])
def test_a_unicast_advert_arrives_as_it_was_built_and_its_receiver_says_nothing(
    family: Family, source: str, destination: str, listening: bool
) -> None:
    """The kernel finds the neighbour's MAC; the raw socket at the far end keeps its kernel from an ICMP error."""
    datagram = unicast_datagram(ip_address(source), ip_address(destination))

    def scene() -> tuple[str | None, list[bytes]]:
        near, far = two_hosts(family, source, destination, listening=listening)
        tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        with near, far, tap:
            tap.bind(("near", 3))  # ETH_P_ALL: what leaves, too
            tap.setblocking(False)
            wait_for_the_far_kernel(family, destination)
            said = sockets.send_to(near, datagram, ip_address(destination))
            wait_for_the_far_kernel(family, destination)
            return said, list(iter(lambda: sockets.receive(tap), None))

    said, frames = in_new_network(scene)
    assert said is None
    packets = [frame.packet for frame in frames]
    assert packets.count(datagram) == 1
    unwelcome = {4: (9, 20, b"\x03\x02"), 6: (6, 40, b"\x04\x01")}[family]  # protocol unreachable, unknown header
    protocol_at, type_at, refusal = unwelcome
    refusals = [p for p in packets if p[protocol_at] in {1, 58} and p[type_at : type_at + 2] == refusal]
    assert len(refusals) == (0 if listening else 1)


@pytest.mark.netns
@pytest.mark.usefixtures("real_kernel")
@each_family
def test_an_advert_that_finds_no_way_says_so(family: Family) -> None:
    def scene() -> str | None:
        cable()
        ip("link set near down")
        nowhere = {4: "10.9.9.9", 6: "2001:db8::9"}[family]
        with sockets.open_raw_socket("near", family) as sock:
            return sockets.send_to(sock, PACKETS[family], ip_address(nowhere))

    assert in_new_network(scene) == {4: "Network is unreachable", 6: "Cannot assign requested address"}[family]


@pytest.mark.netns
@pytest.mark.usefixtures("real_kernel")
@each_family
def test_a_multicast_advert_arrives_as_it_was_built(family: Family) -> None:
    def scene() -> Frame | None:
        cable()
        index = socket.if_nametoindex("far")
        with (
            sockets.open_packet_socket("near", family) as near,
            sockets.open_packet_socket("far", family) as far,
            sockets.join(index=index, group=GROUPS[family]),
        ):
            head = sockets.multicast_mac(GROUPS[family]) + NEAR_MAC + ETHERTYPES[family].to_bytes(2, "big")
            assert sockets.send(near, head + PACKETS[family]) is None
            return next_frame(far)

    assert in_new_network(scene) == Frame(PACKETS[family], ours=True)


# Sniffing ------------------------------------------------------------------------------------------------------------

EXTENSION = bytes((112, 0)) + bytes(6)
OTHER_GROUP = bytes.fromhex("01005e7f0001")
HEARD = {
    "ipv4": ethernet(ADVERT),
    "ipv6": ethernet(ipv6(advert()), 0x86DD),
    "another-group": OTHER_GROUP + ethernet(ADVERT)[6:],
    "to-another-host": bytes.fromhex("020000000009") + ethernet(ADVERT)[6:],
    "broken": ethernet(b"\x45" + bytes(8) + b"\x70"),
    **{
        f"behind-extension-{number}": ethernet(ipv6(EXTENSION + advert(), next_header=number), 0x86DD)
        for number in (0, 43, 44, 60)
    },
}
NOT_HEARD = {
    "another-protocol": ethernet(ipv4(advert(), protocol=17)),
    "another-next-header": ethernet(ipv6(advert(), next_header=58), 0x86DD),
    "another-behind-extension": ethernet(ipv6(b"\x3a" + EXTENSION[1:] + advert(), next_header=0), 0x86DD),
    "another-extension": ethernet(ipv6(EXTENSION + advert(), next_header=51), 0x86DD),
    "arp": ethernet(ADVERT, 0x0806),
    "cut": ethernet(ADVERT[:9]),
    "cut-6": ethernet(ipv6(advert())[:6], 0x86DD),
    "of-a-vlan": ethernet(b"\x00\x05\x08\x00" + ADVERT, 0x8100),
}


@pytest.mark.netns
@pytest.mark.usefixtures("real_kernel")
def test_sniffing_hears_all_of_carps_protocol_and_nothing_else() -> None:
    def scene() -> list[bytes]:
        cable()
        far = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        with sockets.open_sniffing_socket("near") as near, far:
            far.bind(("far", 0))
            for frame in [*NOT_HEARD.values(), *HEARD.values()]:
                far.send(frame)
            return [data for _ in HEARD if (data := next_ethernet(near)) is not None]

    assert in_new_network(scene) == list(HEARD.values())


@pytest.mark.netns
@pytest.mark.usefixtures("real_kernel")
def test_sniffing_hears_our_own_packets_once() -> None:
    def scene() -> tuple[bytes | None, bytes | None]:
        cable()
        with sockets.open_packet_socket("near", 4) as engine, sockets.open_sniffing_socket("near") as near:
            sockets.send(engine, ethernet(ADVERT))
            return next_ethernet(near), sockets.receive_ethernet(near)

    assert in_new_network(scene) == (ethernet(ADVERT), None)


@pytest.mark.netns
@pytest.mark.usefixtures("real_kernel")
def test_sniffing_opens_the_nic_to_every_group_for_as_long_as_it_lasts() -> None:
    def scene() -> list[bool]:
        cable()
        seen = ["allmulti 1" in ip("-d link show near")]
        with sockets.open_sniffing_socket("near"):
            seen.append("allmulti 1" in ip("-d link show near"))
        seen.append("allmulti 1" in ip("-d link show near"))
        return seen

    assert in_new_network(scene) == [False, True, False]


@pytest.mark.netns
@pytest.mark.usefixtures("real_kernel")
def test_sniffing_where_there_is_nothing_is_an_error() -> None:
    with pytest.raises(OSError, match="No such device"):
        in_new_network(lambda: sockets.open_sniffing_socket("none"))


@pytest.mark.netns
@pytest.mark.usefixtures("real_kernel")
@pytest.mark.parametrize("vip", ["10.0.0.200", "fd00::200"])
def test_answers_of_vips_are_heard_also_at_a_virtual_mac_and_questions_are_not(vip: str) -> None:
    address = ip_address(vip)
    version: Family = address.version
    (*_, answer) = announcements(mac=NEAR_MAC, address=address)
    virtual = bytes.fromhex("00005e00012a")

    def scene() -> list[bytes | None]:
        cable()
        ip("link add carp42 link near type macvlan mode bridge")
        ip("link set carp42 address 00:00:5e:00:01:2a up")
        with (
            sockets.open_answers_socket("near", version, [address]) as ear,
            socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as far,
        ):
            far.bind(("far", 0))
            far.send(question(mac=NEAR_MAC, target=address))
            far.send(virtual + answer[6:])
            far.send(NEAR_MAC + answer[6:])
            heard: list[bytes | None] = []
            while len(heard) < 2:
                assert select.select([ear], [], [], 10)[0]
                heard.append(sockets.receive_ethernet(ear))
            return [*heard, sockets.receive_ethernet(ear)]

    assert in_new_network(scene) == [virtual + answer[6:], NEAR_MAC + answer[6:], None]


# Without one ---------------------------------------------------------------------------------------------------------


def test_nothing_waits_on_an_idle_socket() -> None:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with near, far:
        near.setblocking(False)
        assert sockets.receive(near) is None


def test_a_send_says_in_words_what_went_wrong() -> None:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with near:
        far.close()
        assert sockets.send(near, b"frame") == "Connection refused"


def test_an_error_that_is_not_the_interfaces_is_raised() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock, pytest.raises(OSError, match="not connected"):
        sockets.receive(sock)
