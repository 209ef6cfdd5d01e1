"""The command `sniff`: what it chooses, explains and prints. tests/netns has it beside real peers."""

from __future__ import annotations

import io
import json
import os
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import ip_interface
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar import sniff
from sidecar.capture.vrrp import WireProtocol
from sidecar.decode import Judge, UsageError, to_json
from sidecar.net.addresses import Link
from sidecar.protocol.auth import Authenticator, key_from_password
from sidecar.protocol.packet import Header, pack, unpack
from sidecar.protocol.types import DropReason
from sidecar.sniff import Ear, KnownGroups, Sniffer, SniffError, choose, explain
from tests.fakes.captures import PASSWORD, VIP, advert, ethernet, ipv4, ipv6
from tests.fakes.namespace import cable, in_new_network, ip
from tests.fakes.plans import group_plan

ADVERT = ethernet(ipv4(advert()))
TIME = 1795349502475437999
OURS = group_plan(vhid=42, vips=(f"{VIP}/32",), key=key_from_password(PASSWORD), interface="eth0")
NOBODY = KnownGroups([])


def link(name: str, *, mac: bytes = b"\2\0\0\0\0\1", up: bool = True) -> Link:
    return Link(index=1, name=name, mac=mac, up=up)


# Options -------------------------------------------------------------------------------------------------------------

LINKS = (link("lo", mac=b""), link("eth0"), link("eth1", up=False), link("wg0", mac=b""), link("eth2"))


def test_by_default_it_listens_on_the_ethernet_interfaces_that_are_up() -> None:
    assert [each.name for each in choose([], LINKS)] == ["eth0", "eth2"]


def test_the_interfaces_that_are_named_may_be_down_and_count_once() -> None:
    assert [each.name for each in choose(["eth1", "eth0", "eth1"], LINKS)] == ["eth1", "eth0"]


@pytest.mark.parametrize("name", ["eth9", "lo", "wg0", "", "x\x1b[2Jy"])
def test_another_interface_is_refused_by_name(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        choose(["eth0", name], LINKS)
    assert str(caught.value).startswith("-i ")
    assert str(caught.value).endswith(": no such Ethernet interface; there are: eth0, eth1, eth2")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(("links", "there"), [([], "none"), ([link("eth1", up=False)], "eth1")])
def test_without_an_interface_that_is_up_there_is_nothing_to_do(links: list[Link], there: str) -> None:
    with pytest.raises(
        SniffError, match=f"no Ethernet interface is up; name one with -i, there are: {there}$"
    ) as caught:
        choose([], links)
    assert caught.value.code == 1


def refused(**options: object) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    given = {"interfaces": [], "as_json": False, "vips": None, "password_file": None, "groups": ()} | options
    code = sniff.run(**given, out=out, err=err)  # type: ignore[arg-type]
    return code, out.getvalue(), err.getvalue()


def test_options_that_cannot_be_used_are_one_line_and_exit_code_2() -> None:
    for options, said in (
        ({"interfaces": ["no-such-0"]}, "carp-sidecar sniff: -i no-such-0: no such Ethernet interface; there are: "),
        ({"password_file": "/dev/null"}, "carp-sidecar sniff: --password-file needs --vips A,B too: "),
        ({"vips": "x"}, "carp-sidecar sniff: --vips: 'x' is no address; "),
    ):
        code, out, err = refused(**options)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert err.startswith(said)


# Verification --------------------------------------------------------------------------------------------------------


def header(password: bytes, *, vhid: int = 42) -> Header:
    return unpack(advert(password=password, vhid=vhid))


def test_the_settings_groups_are_verified_with_any_of_their_passwords_and_no_others() -> None:
    plan = group_plan(
        vhid=42,
        vips=(f"{VIP}/24",),
        key=key_from_password(b"new"),
        accepted_keys=(key_from_password(b"old"),),
    )
    known = KnownGroups([plan])
    assert known.authentic(header(b"new")) is True
    assert known.authentic(header(b"old")) is True
    assert known.authentic(header(b"older")) is False
    assert known.authentic(header(b"new", vhid=43)) is None


def test_all_addresses_of_a_group_count() -> None:
    vips = ("10.77.0.100/32", "2001:db8::1/128")
    key = key_from_password(b"x")
    mac = Authenticator(key=key, vhid=3, addresses=[ip_interface(vip).ip for vip in vips]).sign(7)
    signed = Header(vhid=3, advbase=1, advskew=0, counter=7, mac=mac)
    assert KnownGroups([group_plan(vhid=3, vips=vips, key=key)]).authentic(signed) is True
    assert KnownGroups([group_plan(vhid=3, vips=vips[:1], key=key)]).authentic(signed) is False


# One packet ----------------------------------------------------------------------------------------------------------


def test_a_packet_is_explained_as_decode_does_it() -> None:
    packet = explain("eth0", ADVERT, time=TIME, judge=KnownGroups([OURS]))
    assert packet is not None
    shown = json.loads(sniff.to_json(packet))
    assert shown == {**json.loads(to_json(packet.record)), "interface": "eth0", "protocol": "CARP"}
    assert (shown["time"], shown["vhid"], shown["authentic"]) == ("2026-11-22T12:11:42.475437Z", 42, True)
    assert list(shown)[-3:] == ["reason", "interface", "protocol"]


@pytest.mark.parametrize(
    ("frame", "protocol", "reason"),
    [
        (ethernet(ipv6(advert()), 0x86DD), WireProtocol.CARP, None),
        (ethernet(ipv4(advert(), ttl=1)), WireProtocol.CARP, DropReason.BAD_TTL),
        (ethernet(ipv4(advert(password=b"other"))), WireProtocol.CARP, DropReason.BAD_HMAC),
        (ethernet(ipv4(b"")), WireProtocol.CARP, DropReason.TRUNCATED),
        (ethernet(ipv4(bytes.fromhex("31356401006474d70a4d0064"))), WireProtocol.VRRP3, DropReason.TRUNCATED),
    ],
    ids=["ipv6", "ttl", "hmac", "empty", "vrrp"],
)
def test_packets_of_all_kinds(frame: bytes, protocol: WireProtocol, reason: DropReason | None) -> None:
    packet = explain("eth0", frame, time=TIME, judge=KnownGroups([OURS]))
    assert packet is not None
    assert (packet.protocol, packet.record.reason) == (protocol, reason)


def test_another_protocol_is_nothing() -> None:
    assert explain("eth0", ethernet(ipv4(advert(), protocol=1)), time=TIME, judge=NOBODY) is None


# The loop ------------------------------------------------------------------------------------------------------------


class Reader(io.StringIO):
    """An output whose reader leaves with the last of so many writes."""

    def __init__(self, writes: int, fault: BaseException | None = None) -> None:
        super().__init__()
        self._left = writes
        self._fault = fault or BrokenPipeError()

    def write(self, text: str, /) -> int:
        written = super().write(text)
        self._left -= 1
        if not self._left:
            raise self._fault
        return written


@pytest.fixture
def ear() -> Iterator[Callable[..., Ear]]:
    """Make an ear that hears these frames."""
    opened = []

    def make(*frames: bytes, name: str = "eth0", judge: Judge = NOBODY) -> Ear:
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        opened.extend((near, far))
        near.setblocking(False)
        for frame in frames:
            far.send(frame)
        return Ear(name, near, judge)

    yield make
    for sock in opened:
        sock.close()


def hear(*ears: Ear, as_json: bool = False, writes: int = 1) -> list[str]:
    out = Reader(writes)
    with pytest.raises(BrokenPipeError):
        Sniffer(ears, as_json=as_json, out=out).run()
    return out.getvalue().splitlines()


def test_a_line_has_time_interface_and_news(ear: Callable[..., Ear]) -> None:
    (line,) = hear(ear(*[ADVERT] * 9, judge=KnownGroups([OURS])))
    time, interface, text = line.split("  ", 2)
    assert len(time) == len("2026-11-22T12:11:42.475437Z")
    assert (interface, text) == (
        "eth0",
        "vhid 42: 10.77.0.1 is master: advbase 1 advskew 100 demotion 3, authentic",
    )


def test_silence_is_told_without_another_packet(ear: Callable[..., Ear]) -> None:
    fast = pack(replace(unpack(advert()), advbase=0, advskew=1))
    assert "is silent" in hear(ear(ethernet(ipv4(fast))), writes=2)[1]


def test_json_has_a_line_for_each_packet_and_no_other(ear: Callable[..., Ear]) -> None:
    lines = hear(ear(ADVERT, ethernet(bytes(28), 0x0806), ADVERT, ADVERT), as_json=True)
    assert [json.loads(line)["vhid"] for line in lines] == [42, 42, 42]


def test_several_interfaces_are_told_apart(ear: Callable[..., Ear]) -> None:
    lines = hear(ear(ADVERT), ear(ADVERT, name="eth1", judge=KnownGroups([OURS])), writes=2)
    assert sorted((line.split()[1], line.rpartition(", ")[2]) for line in lines) == [
        ("eth0", "authenticity not checked"),
        ("eth1", "authentic"),
    ]


def test_an_interface_with_a_strange_name_prints_no_control_characters(ear: Callable[..., Ear]) -> None:
    (line,) = hear(ear(ADVERT, name="x\x1b[2Jy"))
    assert line.isprintable()
    (line,) = hear(ear(ADVERT, name="x\x1b[2Jy"), as_json=True)
    assert line.isprintable()


def test_a_flood_on_one_interface_does_not_silence_another(ear: Callable[..., Ear]) -> None:
    class Endless(socket.socket):
        def recvfrom(self, size: int, flags: int = 0) -> tuple[bytes, None]:  # type: ignore[override]
            super().recvfrom(size, flags | socket.MSG_PEEK)
            return ADVERT, None

    flooded = ear(ADVERT)
    endless = Endless(fileno=os.dup(flooded.sock.fileno()))
    endless.setblocking(False)
    with endless:
        lines = hear(Ear("eth0", endless, NOBODY), ear(ADVERT, name="eth1"), as_json=True, writes=2)
    assert {json.loads(line)["interface"] for line in lines} == {"eth0", "eth1"}


def test_a_reader_that_leaves_ends_it_on_a_silent_lan(ear: Callable[..., Ear]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as out, pytest.raises(BrokenPipeError):
        Sniffer([ear()], as_json=False, out=out).run()


def test_an_output_that_breaks_is_named(ear: Callable[..., Ear]) -> None:
    out = Reader(1, OSError(28, "No space left on device"))
    with pytest.raises(SniffError, match="cannot write the output: No space left on device") as caught:
        Sniffer([ear(ADVERT)], as_json=False, out=out).run()
    assert caught.value.code == 1


def test_a_socket_that_breaks_is_named() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        sniffer = Sniffer([Ear("eth0", sock, NOBODY)], as_json=False, out=io.StringIO())
        with pytest.raises(SniffError, match=r"^cannot listen on eth0 any more: .* not connected$") as caught:
            sniffer.run()
    assert caught.value.code == 1


@given(st.lists(st.binary(max_size=120) | st.binary(max_size=99).map(lambda data: ethernet(ipv4(data))), max_size=9))
def test_whatever_the_bytes_it_prints_lines(frames: list[bytes]) -> None:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with near, far:
        near.setblocking(False)
        for frame in [*frames, ADVERT]:
            far.send(frame)
        lines = hear(Ear("eth0", near, KnownGroups([OURS])))
    assert all(line.isprintable() for line in lines)


# In a namespace ------------------------------------------------------------------------------------------------------


class Cue(io.StringIO):
    """Standard error: once the introduction is said, ``action`` happens."""

    def __init__(self, action: Callable[[], object]) -> None:
        super().__init__()
        self._action = action

    def flush(self) -> None:
        super().flush()
        self._action()


def in_namespace(out: io.StringIO, action: Callable[[socket.socket], object], **options: object) -> tuple[int, str]:
    """Run the command at the near end of a cable; ``action`` gets the far end. Return exit code and stderr."""

    def scene() -> tuple[int, str]:
        cable()
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as far:
            far.bind(("far", 0))
            given = {"interfaces": ["near"], "as_json": False, "vips": None, "password_file": None, "groups": ()}
            err = Cue(lambda: action(far))
            return sniff.run(**(given | options), out=out, err=err), err.getvalue()  # type: ignore[arg-type]

    return in_new_network(scene)


@pytest.mark.netns
@pytest.mark.usefixtures("real_kernel")
@pytest.mark.parametrize("version", [4, 6])
def test_it_listens_until_its_reader_has_had_enough(version: int) -> None:
    out = Reader(1)
    frames = {4: ADVERT, 6: ethernet(ipv6(advert()), 0x86DD)}
    groups = [group_plan(vhid=42, vips=(f"{VIP}/32",), key=key_from_password(PASSWORD), interface="near")]
    code, err = in_namespace(out, lambda far: far.send(frames[version]), groups=groups)
    assert (code, err) == (
        0,
        "carp-sidecar sniff: listening for adverts on near; the settings' groups are verified: vhid 42 on near\n",
    )
    source = {4: "10.77.0.1", 6: "fe80::1"}[version]
    assert f"vhid 42: {source} is master: advbase 1 advskew 100 demotion 3, authentic\n" in out.getvalue()


@pytest.mark.netns
@pytest.mark.usefixtures("real_kernel")
def test_it_ends_with_a_keyboard_interrupt() -> None:
    def interrupt(_: socket.socket) -> None:
        raise KeyboardInterrupt

    code, err = in_namespace(io.StringIO(), interrupt)
    assert code == 0
    assert err.endswith("listening for adverts on near; none is verified; give --vips and --password-file\n")


@pytest.mark.netns
@pytest.mark.usefixtures("real_kernel")
def test_it_goes_on_while_an_interface_is_down_or_away(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(PASSWORD)
    out = Reader(1)

    def send(far: socket.socket) -> None:
        ip("link set near down")
        ip("link set near up")
        ip("link add other type veth peer name more")
        ip("link delete other")
        for _ in range(1000):
            if "state UP" in ip("link show near"):
                break
        far.send(ADVERT)

    code, err = in_namespace(out, send, vips=str(VIP), password_file=str(secret))
    assert code == 0
    assert err.endswith("on near; all of them are verified with --password-file\n")
    assert "is master" in out.getvalue()


@pytest.mark.netns
@pytest.mark.usefixtures("real_kernel")
def test_an_interface_that_is_down_is_told() -> None:
    def scene() -> str:
        cable()
        ip("link set near down")
        err = Cue(lambda: sys.exit(7))
        with pytest.raises(SystemExit):
            sniff.run(
                interfaces=["near"], as_json=False, vips=None, password_file=None, groups=(), out=io.StringIO(), err=err
            )
        return err.getvalue()

    assert "listening for adverts on near (down); " in in_new_network(scene)
