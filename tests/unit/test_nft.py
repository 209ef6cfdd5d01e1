"""Netlink messages byte by byte, and what the kernel makes of them."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.net import nft
from sidecar.net.nft import Batch, Message, Nft, NftError
from tests.fakes.namespace import in_new_network

with_kernel = [pytest.mark.netns, pytest.mark.usefixtures("real_kernel")]


def table(kind: int, name: str, *, family: int = nft.FAMILY_INET) -> Message:
    return Message(kind=kind, family=family, attributes=nft.text(1, name), what=f"table {name}")


def numbers(name: str) -> Message:
    """A set of IPv4 addresses (``NFTA_SET_*``)."""
    attributes = nft.text(1, name) + nft.text(2, "s") + nft.number(4, 7) + nft.number(5, 4) + nft.number(10, 1)
    return Message(kind=nft.NEWSET, family=nft.FAMILY_INET, attributes=attributes, what="set s")


def element(kind: int, name: str, value: bytes) -> Message:
    inside = nft.nested(3, nft.nested(1, nft.nested(1, nft.attribute(1, value))))
    attributes = nft.text(1, name) + nft.text(2, "s") + inside
    return Message(kind=kind, family=nft.FAMILY_INET, attributes=attributes, what=f"element {value.hex()}")


def everything(name: str) -> Message:
    attributes = nft.text(1, name) + nft.text(2, "s")
    return Message(kind=nft.GETSETELEM, family=nft.FAMILY_INET, attributes=attributes, what="set s")


def values(kernel: Nft, name: str) -> set[bytes]:
    found = set()
    for answer in kernel.dump(everything(name)):
        for _, each in nft.each_attribute(nft.attributes(answer).get(3, b"")):
            found.add(nft.attributes(nft.attributes(each)[1])[1])
    return found


def headers(data: bytes) -> list[tuple[int, int, int, int]]:
    """Return type, flags, sequence number and family of each message."""
    found = []
    while data:
        length, kind, flags, sequence, _, family = struct.unpack_from("=IHHIIB", data)
        found.append((kind, flags, sequence, family))
        data = data[length:]
    return found


def test_attributes_are_as_netlink_wants_them() -> None:
    little = struct.pack("=H", 1) == b"\x01\x00"
    assert little, "the bytes below are those of a little-endian machine"
    assert nft.attribute(5, b"abcde") == bytes.fromhex("0900 0500 6162636465 000000")
    assert nft.text(1, "abc") == bytes.fromhex("0800 0100 61626300")
    assert nft.number(2, 1) == bytes.fromhex("0800 0200 00000001")
    assert nft.number(2, -1000) == bytes.fromhex("0800 0200 fffffc18")
    assert nft.number(4, 250, size=8) == bytes.fromhex("0c00 0400 00000000000000fa")
    assert nft.nested(3, nft.number(1, 2)) == bytes.fromhex("0c00 0380 0800 0100 00000002")


@given(st.dictionaries(st.integers(1, 0x3FFF), st.binary(max_size=50)))
def test_what_is_written_is_read_again(content: dict[int, bytes]) -> None:
    written = b"".join(nft.attribute(kind, data) for kind, data in content.items())
    assert nft.attributes(written) == content
    assert nft.attributes(nft.nested(7, written)) == {7: written}


@given(st.binary(max_size=100))
def test_reading_ends_whatever_there_is_to_read(data: bytes) -> None:
    assert len(list(nft.each_attribute(data))) <= len(data) / 4


def test_a_batch_asks_for_one_answer_and_begins_and_ends() -> None:
    messages = [table(nft.NEWTABLE, "t", family=nft.FAMILY_ARP), table(nft.DELTABLE, "t", family=nft.FAMILY_ARP)]
    begin, create, delete = (0x10, 0x1, 0, 0), (0x0A00, 0xC01, 1, 3), (0x0A02, 0x5, 2, 3)
    assert headers(nft.batch(messages).data) == [begin, create, delete, (0x11, 0x1, 3, 0)]
    assert headers(nft.batch(messages, commit=False).data) == [begin, create, delete]
    assert nft.batch(messages).names == ("the batch", "table t", "table t", "the batch")
    assert nft.batch(messages).data[16:20] == bytes.fromhex("0000000a")  # nf_tables, in network order


def in_kernel(action: Callable[[Nft], None]) -> None:
    def scene() -> None:
        kernel = Nft()
        action(kernel)
        kernel.close()

    in_new_network(scene)


class TestKernel:
    pytestmark = with_kernel

    def test_all_of_a_batch_happens_or_nothing(self) -> None:
        def scene(kernel: Nft) -> None:
            kernel.run(nft.batch([table(nft.NEWTABLE, "t"), numbers("t"), element(nft.NEWSETELEM, "t", b"\1\1\1\1")]))
            bad = [
                element(nft.NEWSETELEM, "t", b"\2\2\2\2"),
                element(nft.DELSETELEM, "t", b"\3\3\3\3"),
                element(nft.NEWSETELEM, "t", b"\4\4\4\4"),
                element(nft.DELSETELEM, "t", b"\5\5\5\5"),  # the first refusal is told
            ]
            with pytest.raises(NftError) as caught:
                kernel.run(nft.batch(bad))
            assert (caught.value.what, caught.value.code) == ("element 03030303", errno.ENOENT)
            assert str(caught.value) == "element 03030303: No such file or directory (ENOENT)"
            assert values(kernel, "t") == {b"\1\1\1\1"}
            kernel.run(nft.batch(bad[:3:2]))  # the refusal is not taken for the answer to this
            assert values(kernel, "t") == {b"\1\1\1\1", b"\2\2\2\2", b"\4\4\4\4"}

        in_kernel(scene)

    def test_a_batch_without_commit_is_tried_and_undone(self) -> None:
        def scene(kernel: Nft) -> None:
            kernel.run(nft.batch([table(nft.NEWTABLE, "t"), numbers("t")], commit=False))
            with pytest.raises(NftError, match="ENOENT"):
                kernel.dump(everything("t"))
            with pytest.raises(NftError, match="table t"):
                kernel.run(nft.batch([table(nft.DELTABLE, "t")], commit=False))

        in_kernel(scene)

    def test_a_long_list_is_read_to_its_end(self) -> None:
        wanted = {number.to_bytes(4, "big") for number in range(3000)}

        def scene(kernel: Nft) -> None:
            elements = [element(nft.NEWSETELEM, "t", each) for each in sorted(wanted)]
            kernel.run(nft.batch([table(nft.NEWTABLE, "t"), numbers("t"), *elements[:1500]]))
            kernel.run(nft.batch(elements[1500:]))
            assert values(kernel, "t") == wanted

        in_kernel(scene)

    def test_too_much_at_once_is_an_error_and_the_next_request_is_not(self) -> None:
        def scene(kernel: Nft) -> None:
            elements = [element(nft.NEWSETELEM, "t", number.to_bytes(4, "big")) for number in range(20000)]
            with pytest.raises(OSError, match="too long"):
                kernel.run(nft.batch(elements))
            kernel.run(nft.batch([table(nft.NEWTABLE, "t")]))

        in_kernel(scene)

    def test_more_refusals_than_the_kernel_can_tell_are_an_error_and_none_is_left_over(self) -> None:
        def scene(kernel: Nft) -> None:
            kernel.run(nft.batch([table(nft.NEWTABLE, "t"), numbers("t")]))
            kernel._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)  # type: ignore[union-attr]
            refused = [element(nft.DELSETELEM, "t", number.to_bytes(4, "big")) for number in range(200)]
            with pytest.raises((OSError, NftError)):
                kernel.run(nft.batch(refused))
            kernel.run(nft.batch([element(nft.NEWSETELEM, "t", b"\1\1\1\1")]))
            assert values(kernel, "t") == {b"\1\1\1\1"}

        in_kernel(scene)

    def test_a_closed_one_opens_again(self) -> None:
        def scene(kernel: Nft) -> None:
            kernel.close()
            kernel.run(nft.batch([table(nft.NEWTABLE, "t")]))
            kernel.close()
            kernel.run(nft.batch([table(nft.DELTABLE, "t")]))

        in_kernel(scene)

    def test_no_answer_at_all_is_an_error(self) -> None:
        def scene(kernel: Nft) -> None:
            with pytest.raises(NftError, match="EPROTO"):
                kernel.run(Batch(nft.batch([]).data, ("the batch",)))

        in_kernel(scene)
