"""Whatever the bytes, `decode` neither raises nor keeps quiet about a CARP packet."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.capture.files import Frame, frames
from sidecar.capture.frames import LINK_TYPES
from sidecar.decode import Record, Verifier, file_records, frame_record, from_hex, header_record, run, to_json, to_text
from sidecar.protocol.auth import key_from_password
from sidecar.protocol.types import DropReason
from tests.fakes.captures import (
    CAPTURES,
    CONTAINERS,
    LINKS,
    PASSWORD,
    VIP,
    advert,
    enhanced,
    ethernet,
    interface,
    ipv4,
    ipv6,
    old_packet,
    option,
    pcap,
    section,
    simple_packet,
)

VERIFIER = Verifier(key=key_from_password(PASSWORD), addresses=[VIP])
FILES = sorted([*CAPTURES.glob("*.pcap"), *CONTAINERS.glob("*.pcap*")])
REASONS = frozenset(
    {
        DropReason.TRUNCATED,
        DropReason.BAD_IP_HEADER,
        DropReason.FRAGMENT,
        DropReason.NOT_CARP,  # behind IPv6 extension headers
        DropReason.BAD_TTL,
        DropReason.BAD_VERSION,
        DropReason.BAD_CHECKSUM,
        DropReason.BAD_HMAC,
    }
)
CARP_FRAME = ethernet(ipv4(advert()))
SAMPLES = [
    pcap([CARP_FRAME] * 3),
    pcap([CARP_FRAME] * 3, order=">", magic=0xA1B23C4D),
    b"".join(
        (
            section(),
            interface(options=option(9, b"\x09") + option(14, bytes(8)) + option(0, b"")),
            enhanced(CARP_FRAME, ticks=1),
            interface(link_type=101),
            enhanced(ipv4(advert()), index=1),
            simple_packet(CARP_FRAME),
            section(">"),
            interface(">"),
            old_packet(CARP_FRAME, ">"),
        )
    ),
]


def check(record: Record) -> None:
    """What holds of every record."""
    assert record.reason is None or record.reason in REASONS
    assert (record.reason is None) <= (record.checksum_ok is True)
    assert (record.authentic is None) == (record.checksum_ok is None)
    assert (record.reason is DropReason.BAD_HMAC) <= (record.authentic is False)
    assert record.reason is not None or record.authentic
    assert json.loads(to_json(record))["reason"] == record.reason
    assert to_text(record).isprintable()


def decode(data: bytes) -> tuple[list[Record], list[str]]:
    complaints: list[str] = []
    found = list(file_records("x", io.BytesIO(data), verifier=VERIFIER, complain=complaints.append))
    for record in found:
        check(record)
    return found, complaints


def frames_of_files() -> Iterator[Frame]:
    for path in FILES:
        with path.open("rb") as file:
            yield from frames(file)


@given(st.binary(max_size=80))
def test_any_bytes_as_hex_are_a_packet(data: bytes) -> None:
    out, err = io.StringIO(), io.StringIO()
    assert from_hex("0x" + data.hex()) == (data or None)
    code = run(inputs=["0x" + data.hex()], as_json=True, vips=None, password_file=None, out=out, err=err)
    assert (code, out.getvalue().count("\n"), err.getvalue().count("\n")) == ((0, 1, 0) if data else (1, 0, 1))
    record = header_record(data, verifier=VERIFIER)
    check(record)
    assert (record.reason is DropReason.TRUNCATED) == (len(data) < 36)


@given(st.text(max_size=40))
def test_any_argument_is_a_packet_or_one_line_of_complaint(text: str) -> None:
    out, err = io.StringIO(), io.StringIO()
    code = run(inputs=["/dev/null/" + text], as_json=False, vips=None, password_file=None, out=out, err=err)
    assert (code, out.getvalue()) == (1, "")
    assert err.getvalue().endswith("\n")
    assert err.getvalue()[:-1].isprintable()


@pytest.mark.parametrize("link_type", sorted(LINK_TYPES))
@given(data=st.binary(max_size=120))
def test_any_frame_of_any_link_type(link_type: int, data: bytes) -> None:
    record = frame_record(Frame(time=0, link_type=link_type, data=data), verifier=VERIFIER)
    if record is not None:
        check(record)


@pytest.mark.parametrize("link", LINKS)
@given(payload=st.binary(max_size=80), version=st.sampled_from((4, 6)), cut=st.integers(0, 200))
def test_any_payload_of_carps_protocol_is_a_packet(link: str, payload: bytes, version: int, cut: int) -> None:
    number, wrap = LINKS[link]
    whole = wrap(ipv4(payload) if version == 4 else ipv6(payload), version)
    for data in (whole, whole[:cut]):
        record = frame_record(Frame(time=0, link_type=number, data=data), verifier=VERIFIER)
        assert record is not None
        check(record)
        if len(data) < len(whole):
            assert record.reason is DropReason.TRUNCATED


@pytest.mark.parametrize("link", LINKS)
@given(at=st.integers(0, 200), value=st.integers(0, 255), version=st.sampled_from((4, 6)))
def test_any_wrong_byte_after_the_protocol_byte_is_still_a_packet(link: str, at: int, value: int, version: int) -> None:
    number, wrap = LINKS[link]
    whole = bytearray(wrap(ipv4(advert()) if version == 4 else ipv6(advert()), version))
    start = len(wrap(b"", version)) + (10 if version == 4 else 8)
    whole[start + at % (len(whole) - start)] = value
    record = frame_record(Frame(time=0, link_type=number, data=bytes(whole)), verifier=VERIFIER)
    assert record is not None
    check(record)


def test_every_truncation_of_every_captured_frame() -> None:
    carp = 0
    for frame in frames_of_files():
        whole = frame_record(frame, verifier=VERIFIER)
        carp += whole is not None
        for length in range(len(frame.data)):
            cut = Frame(time=frame.time, link_type=frame.link_type, data=frame.data[:length])
            record = frame_record(cut, verifier=VERIFIER)
            if record is not None:
                check(record)
                # Ethernet's padding and trailers may go without harm; nothing of an advert has any here.
                assert record.reason is DropReason.TRUNCATED
            else:
                assert whole is None, (frame, length)
    assert carp == 125 + 6 + 12 + 6


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_truncation_of_every_file(path: Path) -> None:
    data = path.read_bytes()
    whole, none = decode(data)
    assert none == []
    for length in range(0, len(data), 7):
        found, complaints = decode(data[:length])
        assert len(complaints) <= 1
        assert found[:-1] == whole[: len(found[:-1])]
        if found != whole[: len(found)]:
            assert found[-1].reason is DropReason.TRUNCATED
            assert "cut short" in complaints[0]


@given(sample=st.sampled_from(SAMPLES), edits=st.lists(st.tuples(st.integers(0), st.integers(0, 255)), max_size=4))
def test_a_file_with_wrong_bytes(sample: bytes, edits: list[tuple[int, int]]) -> None:
    data = bytearray(sample)
    for at, value in edits:
        data[at % len(data)] = value
    found, complaints = decode(bytes(data))
    assert len(complaints) <= 3
    assert all(line.isprintable() for line in complaints)
    if bytes(data) == sample:
        assert complaints == []
        assert [r.reason for r in found] == [None] * (3 if sample[0] != 0x0A else 4)


@given(st.data())
def test_a_file_with_wrong_bytes_inside_one_packet_gives_every_line(data: st.DataObject) -> None:
    """Damage that leaves the container and the protocol byte alone hides nothing."""
    file = bytearray(SAMPLES[0])
    carp_starts = 24 + 16 + 14 + 20
    for _ in range(data.draw(st.integers(1, 5))):
        file[carp_starts + data.draw(st.integers(0, 35))] ^= data.draw(st.integers(1, 255))
    found, complaints = decode(bytes(file))
    assert (len(found), complaints) == (3, [])


@given(head=st.sampled_from([b"", *(s[:24] for s in SAMPLES), section() + interface()]), rest=st.binary(max_size=400))
def test_any_bytes_after_any_head(head: bytes, rest: bytes) -> None:
    _, complaints = decode(head + rest)
    assert all(line.isprintable() for line in complaints)
