import io
import os
import struct
import threading

import pytest

from sidecar.capture.files import CaptureError, Frame, frames
from tests.fakes.captures import (
    CONTAINERS,
    SIMPLE_PACKET,
    block,
    enhanced,
    interface,
    old_packet,
    option,
    pcap,
    section,
    simple_packet,
)

NS = 10**9
ORDERS = pytest.mark.parametrize("order", ["<", ">"], ids=["little-endian", "big-endian"])


def read(data: bytes) -> list[Frame]:
    return list(frames(io.BytesIO(data)))


def read_until_error(data: bytes) -> tuple[list[Frame], str]:
    seen: list[Frame] = []
    with pytest.raises(CaptureError) as caught:  # noqa: PT012 - what came before the error counts too
        for frame in frames(io.BytesIO(data)):
            seen.append(frame)
    return seen, str(caught.value)


@ORDERS
@pytest.mark.parametrize(
    ("magic", "nanoseconds"),
    [(0xA1B2C3D4, 475437000), (0xA1B23C4D, 475437), (0xA1B2CD34, 475437000)],
    ids=["microseconds", "nanoseconds", "modified"],
)
def test_pcap(order: str, magic: int, nanoseconds: int) -> None:
    data = pcap([b"one", b"", b"three"], link_type=113, order=order, magic=magic)
    time = 1795349502 * NS + nanoseconds
    assert read(data) == [Frame(time=time, link_type=113, data=d) for d in (b"one", b"", b"three")]


def test_pcap_without_packets() -> None:
    assert read(pcap([])) == []


def test_pcap_times_are_exact_and_unsigned() -> None:
    (frame,) = read(pcap([b""], time=(0xFFFFFFFF, 999999)))
    assert frame.time == 0xFFFFFFFF * NS + 999999000


def test_the_length_of_a_frame_check_sequence_is_no_part_of_the_link_type() -> None:
    (frame,) = read(pcap([b"x"], link_type=0x24000001))
    assert frame.link_type == 1


@pytest.mark.parametrize("length", range(1, 24))
def test_a_cut_pcap_header(length: int) -> None:
    seen, error = read_until_error(pcap([b"x"])[:length])
    assert seen == []
    assert error.startswith("cut short in the file's header" if length >= 4 else "neither pcap nor pcapng")


@pytest.mark.parametrize("cut", range(1, 20))
def test_a_cut_pcap_gives_the_packets_before_and_what_is_there_of_the_last(cut: int) -> None:
    seen, error = read_until_error(pcap([b"first", b"last"])[:-cut])
    assert error == "cut short in packet 2"
    assert [f.data for f in seen] == [b"first", *([b"last"[:-cut]] if cut <= 4 else [])]


def test_a_length_that_no_packet_has_is_not_believed() -> None:
    data = pcap([b"first"]) + struct.pack("<IIII", 0, 0, 262145, 262145) + b"rest"
    seen, error = read_until_error(data)
    assert [f.data for f in seen] == [b"first"]
    assert error == "damaged: packet 2 claims 262145 bytes"


def test_the_longest_packet_is_believed() -> None:
    assert [len(f.data) for f in read(pcap([bytes(262144)]))] == [262144]


@pytest.mark.parametrize("data", [b"\n", b"#!/bin/sh\n", b"\x1f\x8b\x08\0", bytes(64)])
def test_another_format(data: bytes) -> None:
    assert read_until_error(data) == ([], "neither pcap nor pcapng; give what tcpdump -w has written")


def test_an_empty_file() -> None:
    assert read_until_error(b"") == ([], "empty; give what tcpdump -w has written")


@ORDERS
def test_pcapng_with_every_kind_of_packet(order: str) -> None:
    data = (
        section(order, options=option(4, b"tests", order) + option(0, b"", order))
        + block(0xBAD, b"unknown", order)
        + interface(order, link_type=276, options=option(2, b"eth0", order) + option(0, b"", order))
        + enhanced(b"one", order, ticks=1795349502475437)
        + old_packet(b"two!", order, ticks=1)
        + simple_packet(b"three", order)
    )
    assert read(data) == [
        Frame(time=1795349502475437000, link_type=276, data=b"one"),
        Frame(time=1000, link_type=276, data=b"two!"),
        Frame(time=None, link_type=276, data=b"three"),
    ]


@ORDERS
@pytest.mark.parametrize(
    ("resolution", "offset", "ticks", "time"),
    [
        (b"\x06", 0, 1500000, 1500000000),
        (b"\x09", 0, 1500000, 1500000),
        (b"\x00", 0, 7, 7 * NS),
        (b"\x0c", 0, 1999, 1),
        (b"\x8a", 0, 1536, 3 * NS // 2),
        (b"\xff", 0, 2**64 - 1, 0),
        (b"\x7f", 0, 2**64 - 1, 0),
        (b"\x06", 100, 5, 100 * NS + 5000),
        (b"\x06", -100, 5, -100 * NS + 5000),
    ],
)
def test_an_interface_has_its_clock(order: str, resolution: bytes, offset: int, ticks: int, time: int) -> None:
    options = option(9, resolution, order) + option(14, struct.pack(f"{order}q", offset), order)
    data = section(order) + interface(order, options=options) + enhanced(b"x", order, ticks=ticks)
    assert [f.time for f in read(data)] == [time]


@pytest.mark.parametrize(
    "options", [option(9, b""), option(9, b"\t\t"), option(14, b"1234"), b"\x09\0", b"\x0e\0\xff\xff12"]
)
def test_options_that_are_broken_change_nothing(options: bytes) -> None:
    data = section() + interface(options=options) + enhanced(b"x", ticks=1)
    assert [f.time for f in read(data)] == [1000]


def test_interfaces_differ_and_each_section_has_its_own() -> None:
    first = section("<") + interface("<") + interface("<", link_type=101, options=option(9, b"\x09"))
    second = section(">") + interface(">", link_type=113)
    data = first + enhanced(b"b", index=1, ticks=5) + enhanced(b"a", ticks=5) + second
    assert read(data + enhanced(b"c", ">", ticks=5)) == [
        Frame(time=5, link_type=101, data=b"b"),
        Frame(time=5000, link_type=1, data=b"a"),
        Frame(time=5000, link_type=113, data=b"c"),
    ]


@pytest.mark.parametrize(
    ("snaplen", "original", "data"),
    [(0, 5, b"12345"), (4, 5, b"1234"), (9, 5, b"12345"), (4, 3, b"123")],
)
def test_a_simple_packet_is_as_long_as_the_snaplen_lets_it(snaplen: int, original: int, data: bytes) -> None:
    file = section() + interface(snaplen=snaplen) + simple_packet(b"12345\0\0\0", original=original)
    assert [f.data for f in read(file)] == [data]


@pytest.mark.parametrize(
    "packet", [enhanced(b"x", index=1), enhanced(b"x", index=0xFFFFFFFF), old_packet(b"x", index=1)]
)
def test_a_packet_of_an_interface_that_is_not_there(packet: bytes) -> None:
    seen, error = read_until_error(section() + interface() + enhanced(b"first") + packet)
    assert [f.data for f in seen] == [b"first"]
    assert error == "cut short or damaged in packet 2"


def test_a_simple_packet_before_any_interface() -> None:
    assert read_until_error(section() + simple_packet(b"x"))[1] == "cut short or damaged in packet 1"


@pytest.mark.parametrize("kind", [2, 3, 6])
def test_a_block_too_short_for_a_packet(kind: int) -> None:
    assert read_until_error(section() + interface() + block(kind, b""))[1] == "cut short or damaged in packet 1"


def test_a_block_too_short_for_an_interface() -> None:
    error = "damaged: an interface's description is too short"
    assert read_until_error(section() + block(1, b"1234")) == ([], error)


@pytest.mark.parametrize("length", [0, 4, 8, 11, 13, 14, 15, (16 << 20) + 4, 0xFFFFFFFC])
def test_a_length_that_no_block_has_is_not_believed(length: int) -> None:
    data = section() + interface() + enhanced(b"first") + struct.pack("<II", 6, length) + bytes(64)
    seen, error = read_until_error(data)
    assert [f.data for f in seen] == [b"first"]
    assert error == f"damaged: block 4 claims {length} bytes"


def test_a_section_that_is_too_short() -> None:
    data = b"\n\r\r\n" + struct.pack("<II", 12, 0x1A2B3C4D)
    assert read_until_error(data) == ([], "damaged: block 1 claims 12 bytes")


def test_a_block_with_two_lengths() -> None:
    data = section() + interface() + enhanced(b"first")[:-4] + struct.pack("<I", 44) + enhanced(b"next")
    seen, error = read_until_error(data)
    assert [f.data for f in seen] == [b"first"]
    assert error == "damaged: block 3 has two lengths"


def test_a_section_in_no_known_byte_order() -> None:
    data = section().replace(b"\x4d\x3c\x2b\x1a", b"\x01\x02\x03\x04")
    assert read_until_error(data) == ([], "cut short or damaged in block 1")


def test_a_pcapng_of_a_version_to_come() -> None:
    assert read_until_error(section(major=2)) == ([], "pcapng version 2, where 1 is known")


@pytest.mark.parametrize("there", range(1, 40))
def test_a_cut_pcapng_gives_the_packets_before_and_what_is_there_of_the_last(there: int) -> None:
    last = enhanced(b"12345678")
    seen, error = read_until_error(section() + interface() + enhanced(b"first") + last[:there])
    head = 28
    assert [f.data for f in seen] == [b"first", *([last[head:there][:8]] if there >= head else [])]
    assert error.startswith("cut short")


@pytest.mark.parametrize("length", range(5, 28))
def test_a_cut_section(length: int) -> None:
    seen, error = read_until_error(section()[:length])
    assert seen == []
    assert error.startswith("cut short")


def test_a_cut_interface() -> None:
    assert read_until_error(section() + interface()[:-3]) == ([], "cut short in block 2")


def test_many_options_are_read_in_time_that_grows_with_them() -> None:
    # A copy of the rest for each option would take minutes here.
    options = option(1, b"") * 1_000_000 + option(9, b"\x09")
    assert [f.time for f in read(section() + interface(options=options) + enhanced(b"x", ticks=5))] == [5]


def test_a_pipe_will_do() -> None:
    data = pcap([b"x" * 1000] * 200)
    reader, writer = os.pipe()

    def feed() -> None:
        with os.fdopen(writer, "wb") as sink:
            sink.write(data)

    thread = threading.Thread(target=feed)
    thread.start()
    with os.fdopen(reader, "rb") as source:
        assert len(list(frames(source))) == 200
    thread.join()


@pytest.mark.parametrize(
    ("name", "link_type", "time", "lengths"),
    [
        ("linux-cooked.pcap", 113, 1795407927132597000, [44, 72, 72, 72, 44, 72, 72, 72]),
        ("nanoseconds-snaplen-60.pcap", 1, 1795407927132597074, [42, 60, 60, 60, 42, 60, 60, 60]),
    ],
)
def test_files_of_tcpdump(name: str, link_type: int, time: int, lengths: list[int]) -> None:
    with (CONTAINERS / name).open("rb") as file:
        every = list(frames(file))
    assert {f.link_type for f in every} == {link_type}
    assert every[1].time == time
    assert [len(f.data) for f in every] == lengths


def test_a_file_of_mergecap_has_the_frames_of_both_with_their_own_clocks() -> None:
    with (CONTAINERS / "two-interfaces.pcapng").open("rb") as file:
        every = list(frames(file))
    assert [f.link_type for f in every].count(276) == 8
    with (CONTAINERS / "nanoseconds-snaplen-60.pcap").open("rb") as file:
        assert [f for f in every if f.link_type == 1] == list(frames(file))


def test_a_packet_block_is_no_longer_than_it_says() -> None:
    data = section() + interface() + block(SIMPLE_PACKET, struct.pack("<I", 2) + b"12pad")
    assert [f.data for f in read(data)] == [b"12"]
