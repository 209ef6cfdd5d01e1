"""Packet sockets: what the kernel's filter lets through, and what becomes of errors."""

from __future__ import annotations

import errno
import select
import socket
from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest

from sidecar.net import sockets
from sidecar.net.sockets import Frame
from tests.fakes.captures import advert, ethernet, ipv4
from tests.fakes.namespace import cable, in_new_network, ip

NEAR_MAC = bytes.fromhex("020000000001")
ADVERT = ipv4(advert())
SO_DETACH_FILTER = 27


@pytest.mark.parametrize(
    ("group", "mac"),
    [
        ("224.0.0.18", "01:00:5e:00:00:12"),
        ("224.128.0.18", "01:00:5e:00:00:12"),  # 23 of the 28 bits fit
        ("239.255.255.255", "01:00:5e:7f:ff:ff"),
        ("225.1.2.3", "01:00:5e:01:02:03"),
    ],
)
def test_the_mac_of_a_multicast_group_has_its_low_23_bits(group: str, mac: str) -> None:
    assert sockets.multicast_mac(IPv4Address(group)).hex(":") == mac


# On a real kernel ----------------------------------------------------------------------------------------------------


@pytest.fixture
def wire(real_kernel: None) -> Iterator[tuple[socket.socket, socket.socket]]:  # noqa: ARG001 - it skips
    """The packet socket under test on one end of a cable, and a plain one on the other."""

    def build() -> tuple[socket.socket, socket.socket]:
        cable()
        far = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        far.bind(("far", 0x0003))
        return sockets.open_packet_socket("near"), far

    near, far = in_new_network(build)
    with near, far:
        yield near, far


def next_frame(sock: socket.socket) -> Frame | None:
    readable, _, _ = select.select([sock], [], [], 10)
    assert readable, "nothing came"
    return sockets.receive(sock)


@pytest.mark.netns
def test_only_carp_over_ipv4_passes_the_filter(wire: tuple[socket.socket, socket.socket]) -> None:
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
@pytest.mark.parametrize(
    ("destination", "ours"),
    [("01005e000012", True), ("ffffffffffff", True), ("020000000001", True), ("020000000009", False)],
)
def test_it_is_told_whether_a_frame_was_meant_for_this_host(
    wire: tuple[socket.socket, socket.socket], destination: str, ours: bool
) -> None:
    near, far = wire
    far.send(bytes.fromhex(destination) + ethernet(ADVERT)[6:])
    assert next_frame(near) == Frame(ADVERT, ours=ours)


@pytest.mark.netns
def test_frames_leave_as_they_are_and_are_not_heard_by_ourselves(wire: tuple[socket.socket, socket.socket]) -> None:
    near, far = wire
    frame = ethernet(ADVERT)
    assert sockets.send(near, frame) is None
    far.settimeout(10)
    assert far.recv(2048) == frame
    assert sockets.receive(near) is None


@pytest.mark.netns
def test_the_filter_is_locked(wire: tuple[socket.socket, socket.socket]) -> None:
    with pytest.raises(PermissionError):
        wire[0].setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)


@pytest.mark.netns
@pytest.mark.usefixtures("real_kernel")
def test_an_interface_that_goes_down_or_away_is_no_exception() -> None:
    def scene() -> list[object]:
        cable()
        with sockets.open_packet_socket("near") as near:
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
        in_new_network(lambda: sockets.open_packet_socket("none"))
    assert caught.value.errno == errno.ENODEV


@pytest.mark.netns
@pytest.mark.usefixtures("real_kernel")
def test_a_membership_lasts_as_long_as_its_socket() -> None:
    def groups() -> str:
        return ip("maddress show dev near")

    def scene() -> tuple[str, str, str]:
        cable()
        before = groups()
        with sockets.join(index=socket.if_nametoindex("near"), group=IPv4Address("224.0.0.18")):
            during = groups()
        return before, during, groups()

    before, during, after = in_new_network(scene)
    assert "224.0.0.18" in during
    assert "01:00:5e:00:00:12" in during
    assert "224.0.0.18" not in before + after


@pytest.mark.netns
@pytest.mark.usefixtures("real_kernel")
def test_a_group_on_an_interface_that_is_not_there_cannot_be_joined() -> None:
    with pytest.raises(OSError, match="No such device"):
        in_new_network(lambda: sockets.join(index=999, group=IPv4Address("224.0.0.18")))


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
