"""rtnetlink with pyroute2's messages: requests, refusals, and reading what the kernel has."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from sidecar.net import rtnetlink
from sidecar.net.rtnetlink import Rtnetlink
from tests.fakes.namespace import in_new_network, ip

HEADER = struct.Struct("=IHHII")
INTERRUPTED = 0x10


def piece(kind: int, body: bytes = bytes(4), *, flags: int = 0) -> bytes:
    return HEADER.pack(HEADER.size + len(body), kind, flags, 0, 0) + body


def link(index: int, *, flags: int = 0) -> bytes:
    made = rtnetlink.request(rtnetlink.NEWLINK, index=index, attributes=[("IFLA_IFNAME", f"eth{index}")])
    return piece(rtnetlink.NEWLINK, bytes(made[HEADER.size :]), flags=flags)


DONE, REFUSED = piece(3), piece(2, struct.pack("=i", -errno.EPERM))


@contextmanager
def answering(monkeypatch: pytest.MonkeyPatch, *dumps: list[bytes]) -> Iterator[list[list[bytes]]]:
    """A kernel that answers one dump after the other with these datagrams; yields those that nobody has asked for."""
    left = list(dumps)
    with ExitStack() as stack:

        def opened() -> socket.socket:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            stack.enter_context(theirs)
            for each in left.pop(0):
                theirs.send(each)
            return ours

        monkeypatch.setattr(rtnetlink, "_open", opened)
        yield left


def indexes(found: list[object]) -> list[int]:
    return [each["index"] for each in found]  # type: ignore[index]


def test_a_dump_is_read_to_its_end_whatever_the_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(monkeypatch, [link(1) + link(2), link(3) + DONE]):
        found = rtnetlink.dump(rtnetlink.GETLINK)
    assert indexes(found) == [1, 2, 3]
    assert [each.get_attr("IFLA_IFNAME") for each in found] == ["eth1", "eth2", "eth3"]


def test_what_is_not_wanted_is_not_even_read(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(monkeypatch, [link(1) + link(2) + DONE]):
        assert indexes(rtnetlink.dump(rtnetlink.GETLINK, lambda each: b"eth2" in each)) == [2]


def test_a_dump_during_which_something_changed_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(monkeypatch, [link(1, flags=INTERRUPTED) + DONE], [link(2) + DONE], []) as left:
        assert indexes(rtnetlink.dump(rtnetlink.GETLINK)) == [2]
    assert len(left) == 1


def test_a_dump_that_always_changes_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    dumps = [[link(number, flags=INTERRUPTED) + DONE] for number in range(5)]
    with answering(monkeypatch, *dumps) as left:
        assert indexes(rtnetlink.dump(rtnetlink.GETLINK)) == [4]
    assert left == []


def test_a_dump_that_is_refused_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(monkeypatch, [REFUSED]), pytest.raises(PermissionError):
        rtnetlink.dump(rtnetlink.GETLINK)


def test_messages_of_other_kinds_are_passed_over_and_a_cut_one_ends_it() -> None:
    data = piece(99) + link(7) + piece(0) + link(8) + b"\0" * 15
    assert indexes(list(rtnetlink.messages(data))) == [7, 8]
    assert list(rtnetlink.messages(bytes(64))) == []  # a length of 0 is no endless loop


def test_a_request_is_answered_by_its_own_acknowledgement() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    kernel = Rtnetlink()
    kernel._socket.close()
    kernel._socket = ours
    request = rtnetlink.request(rtnetlink.NEWLINK, index=1)
    with theirs, kernel:
        for sequence, code in ((0, -errno.EBUSY), (1, 0), (1, -errno.EBUSY), (2, -errno.EINVAL)):
            theirs.send(HEADER.pack(20, 2, 0, sequence, 0) + struct.pack("=i", code))
        kernel.ask(request)
        with pytest.raises(OSError, match="Invalid argument") as refused:
            kernel.ask(request)
        assert refused.value.errno == errno.EINVAL
        sent = [HEADER.unpack_from(theirs.recv(65536)) for _ in range(2)]
    assert [each[3] for each in sent] == [1, 2]
    assert {each[1] for each in sent} == {rtnetlink.NEWLINK}


@pytest.mark.netns
@pytest.mark.usefixtures("real_kernel")
def test_the_real_kernel_answers() -> None:
    def scene() -> tuple[list[str], list[int], int]:
        ip("link set lo up")
        links = [each.get_attr("IFLA_IFNAME") for each in rtnetlink.dump(rtnetlink.GETLINK)]
        ip("route add blackhole 10.9.0.0/16")
        routes = [each["dst_len"] for each in rtnetlink.dump(rtnetlink.GETROUTE) if each["table"] == 254]
        with Rtnetlink() as kernel, pytest.raises(OSError, match="No such device") as refused:
            kernel.ask(rtnetlink.request(rtnetlink.DELLINK, index=99))
        return links, routes, refused.value.errno or 0

    assert in_new_network(scene) == (["lo"], [16], errno.ENODEV)
