import io
import json
import os
import re
import subprocess
import sys
from ipaddress import ip_address
from pathlib import Path

import pytest

from sidecar.capture.files import Frame
from sidecar.decode import (
    Record,
    UsageError,
    Verifier,
    file_records,
    frame_record,
    from_hex,
    header_record,
    records,
    run,
    to_json,
    to_text,
    verifier_from_options,
)
from sidecar.protocol.auth import Authenticator, key_from_password
from sidecar.protocol.packet import Header, unpack
from sidecar.protocol.types import DropReason
from tests.fakes.captures import (
    CAPTURES,
    CONTAINERS,
    COUNTER,
    PASSWORD,
    VIP,
    advert,
    enhanced,
    ethernet,
    interface,
    ipv4,
    ipv6,
    pcap,
    section,
)

ADVERT = advert()
WRONG_CHECKSUM = ADVERT[:6] + b"\0\0" + ADVERT[8:]
FIELDS = [
    *("time", "source", "destination", "vhid", "advbase", "advskew", "demotion", "counter"),
    *("checksum_ok", "authentic", "reason"),
]
TIME = 1795349502475437999
"""In nanoseconds: 2026-11-22T12:11:42.475437Z."""


def verifier(password: bytes = PASSWORD) -> Verifier:
    return Verifier(key=key_from_password(password), addresses=[VIP])


def frame(packet: bytes, *, time: int | None = TIME, link_type: int = 101) -> Frame:
    return Frame(time=time, link_type=link_type, data=packet)


def record(packet: bytes, *, check: Verifier | None = None) -> Record:
    found = frame_record(frame(packet), verifier=check)
    assert found is not None
    return found


def command(*inputs: str | Path, **options: str | Path | bool | None) -> tuple[int, list[str], list[str]]:
    """Run the command; return the exit code and the lines on stdout and stderr."""
    out, err = io.StringIO(), io.StringIO()
    vips, password_file = options.get("vips"), options.get("password_file")
    code = run(
        inputs=[str(each) for each in inputs],
        as_json=bool(options.get("as_json")),
        vips=None if vips is None else str(vips),
        password_file=None if password_file is None else str(password_file),
        out=out,
        err=err,
    )
    return code, out.getvalue().splitlines(), err.getvalue().splitlines()


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_bytes(PASSWORD + b"\n")
    return path


# --- one packet ---


def test_a_sound_packet() -> None:
    assert record(ipv4(ADVERT), check=verifier()) == Record(
        time="2026-11-22T12:11:42.475437Z",
        source="10.77.0.1",
        destination="224.0.0.18",
        vhid=42,
        advbase=1,
        advskew=100,
        demotion=3,
        counter=COUNTER,
        checksum_ok=True,
        authentic=True,
        reason=None,
    )


def test_a_sound_packet_over_ipv6() -> None:
    found = record(ipv6(ADVERT), check=verifier())
    assert (found.source, found.destination, found.authentic, found.reason) == ("fe80::1", "ff02::12", True, None)


def test_what_is_not_carp_has_no_record() -> None:
    assert frame_record(frame(ipv4(ADVERT, protocol=1)), verifier=None) is None


def test_without_a_password_nothing_is_authentic_or_not() -> None:
    found = record(ipv4(ADVERT))
    assert (found.authentic, found.reason) == (None, None)


@pytest.mark.parametrize(
    ("packet", "checksum", "authentic", "reason"),
    [
        (ipv4(ADVERT, ttl=64), True, True, DropReason.BAD_TTL),
        (ipv6(ADVERT, hop_limit=64), True, True, DropReason.BAD_TTL),
        (ipv4(ADVERT, fragment=0x2000), True, True, DropReason.FRAGMENT),
        (ipv4(ADVERT, fragment=0x0001), None, None, DropReason.FRAGMENT),
        (ipv4(ADVERT + b"more")[:-1], True, True, DropReason.TRUNCATED),
        (ipv4(ADVERT)[:-1], None, None, DropReason.TRUNCATED),
        (ipv4(ADVERT[:-1]), None, None, DropReason.TRUNCATED),
        (ipv4(b""), None, None, DropReason.TRUNCATED),
        (ipv4(ADVERT)[:10] + b"\0\0" + ipv4(ADVERT)[12:], True, True, DropReason.BAD_IP_HEADER),
        (ipv4(b"\x31" + ADVERT[1:]), False, True, DropReason.BAD_VERSION),
        (ipv4(WRONG_CHECKSUM), False, True, DropReason.BAD_CHECKSUM),
        (ipv4(WRONG_CHECKSUM, ttl=64), False, True, DropReason.BAD_TTL),
        (ipv4(ADVERT[:-1] + b"\0"), False, False, DropReason.BAD_CHECKSUM),
        (ipv4(advert(password=b"Secret")), True, False, DropReason.BAD_HMAC),
        (ipv4(advert(password=b"Secret"), ttl=64), True, False, DropReason.BAD_TTL),
        (ipv4(ADVERT + b"trailing"), True, True, None),
    ],
)
def test_the_first_thing_that_is_wrong_is_the_reason(
    packet: bytes, checksum: bool | None, authentic: bool | None, reason: DropReason | None
) -> None:
    found = record(packet, check=verifier())
    assert (found.checksum_ok, found.authentic, found.reason) == (checksum, authentic, reason)


@pytest.mark.parametrize("length", range(36))
def test_a_short_header_shows_the_fields_that_are_there(length: int) -> None:
    found = header_record(ADVERT[:length], verifier=verifier())
    assert found == Record(
        time=None,
        source=None,
        destination=None,
        vhid=42 if length >= 2 else None,
        advskew=100 if length >= 3 else None,
        demotion=3 if length >= 5 else None,
        advbase=1 if length >= 6 else None,
        counter=COUNTER if length >= 16 else None,
        checksum_ok=None,
        authentic=None,
        reason=DropReason.TRUNCATED,
    )


def test_each_vhid_has_its_own_hmac() -> None:
    check = verifier()
    for vhid in (1, 42, 255, 1, 0):
        assert check.authentic(unpack(advert(vhid=vhid)))
    moved = advert(vhid=1)
    assert not check.authentic(unpack(moved[:1] + b"\x02" + moved[2:]))


@pytest.mark.parametrize(
    ("time", "text"),
    [
        (0, "1970-01-01T00:00:00.000000Z"),
        (-1, "1969-12-31T23:59:59.999999Z"),
        (0xFFFFFFFF * 10**9, "2106-02-07T06:28:15.000000Z"),
        (253402300799 * 10**9 + 999999999, "9999-12-31T23:59:59.999999Z"),
        (253402300800 * 10**9, None),
        (-62135596801 * 10**9, None),
        (2**64 * 10**9, None),
        (None, None),
    ],
)
def test_times(time: int | None, text: str | None) -> None:
    found = frame_record(frame(ipv4(ADVERT), time=time), verifier=None)
    assert found is not None
    assert found.time == text


# --- hex ---


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("21", b"\x21"),
        ("0x212A", b"\x21\x2a"),
        ("0X212a", b"\x21\x2a"),
        ("21:2a:00", b"\x21\x2a\0"),
        (" 21 2a\t00\n", b"\x21\x2a\0"),
        ("0x21 0x2a", b"\x21\x2a"),
        ("212", b"\x21"),
        ("2", b""),
        ("", None),
        ("0x", None),
        (" :", None),
        ("21-2a", None),
        ("0x0x21", None),
        ("21g", None),
        ("capture.pcap", None),
        ("٢١", None),
    ],
)
def test_hex(text: str, data: bytes | None) -> None:
    assert from_hex(text) == data


# --- the output ---


def test_json_has_the_fields_of_the_contract_in_their_order() -> None:
    found = json.loads(to_json(record(ipv4(ADVERT), check=verifier())))
    assert list(found) == FIELDS
    assert found == {
        "time": "2026-11-22T12:11:42.475437Z",
        "source": "10.77.0.1",
        "destination": "224.0.0.18",
        "vhid": 42,
        "advbase": 1,
        "advskew": 100,
        "demotion": 3,
        "counter": 0x0123456789ABCDEF,
        "checksum_ok": True,
        "authentic": True,
        "reason": None,
    }


def test_json_of_a_header_that_is_cut() -> None:
    line = to_json(header_record(b"", verifier=None))
    assert json.loads(line) == dict.fromkeys(FIELDS) | {"reason": "truncated"}
    assert "\n" not in line


@pytest.mark.parametrize(
    ("found", "line"),
    [
        (
            record(ipv4(ADVERT), check=verifier()),
            "2026-11-22T12:11:42.475437Z  10.77.0.1 > 224.0.0.18    vhid 42   advbase 1   advskew 100  demotion 3  "
            "  counter 0x0123456789abcdef  checksum ok   authentic",
        ),
        (
            record(ipv4(WRONG_CHECKSUM)),
            "2026-11-22T12:11:42.475437Z  10.77.0.1 > 224.0.0.18    vhid 42   advbase 1   advskew 100  demotion 3  "
            "  counter 0x0123456789abcdef  checksum BAD  not checked    bad-checksum",
        ),
        (
            record(ipv4(advert(password=b"Secret")), check=verifier()),
            "2026-11-22T12:11:42.475437Z  10.77.0.1 > 224.0.0.18    vhid 42   advbase 1   advskew 100  demotion 3  "
            "  counter 0x0123456789abcdef  checksum ok   NOT authentic  bad-hmac",
        ),
        (
            header_record(ADVERT[:3], verifier=None),
            "-                            - > -                     vhid 42   advbase -   advskew 100  demotion -  "
            "  counter -                   checksum -    not checked    truncated",
        ),
    ],
    ids=["authentic", "not-checked", "not-authentic", "cut"],
)
def test_text(found: Record, line: str) -> None:
    assert to_text(found) == line


# --- files and other inputs ---


def test_a_capture_and_hex_side_by_side(password_file: Path) -> None:
    code, out, err = command(
        CAPTURES / "01-start-master.pcap",
        ADVERT.hex(":"),
        vips="10.77.0.100/24",
        password_file=password_file,
        as_json=True,
    )
    every = [json.loads(line) for line in out]
    assert (code, err) == (0, [])
    assert [(r["source"], r["authentic"], r["reason"]) for r in every] == [
        ("10.77.0.1", True, None),
        ("10.77.0.1", True, None),
        ("10.77.0.1", True, None),
        (None, True, None),
    ]


def test_a_file_that_is_named_like_hex_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("cafe").write_bytes(pcap([ethernet(ipv4(ADVERT))]))
    code, out, _ = command("cafe", "babe", as_json=True)
    assert code == 0
    assert [json.loads(line)["vhid"] for line in out] == [42, 0xBE]


def test_hex_of_any_length_is_a_packet() -> None:
    code, out, err = command("", "2", "2101", ADVERT.hex() + "00" * 300, as_json=True)
    assert [json.loads(line)["reason"] for line in out] == ["truncated", "truncated", None]
    assert code == 1
    assert err == [
        "carp-sidecar decode: '': no such file, and not hex; give a capture file or a CARP header's hex digits"
    ]


@pytest.mark.parametrize("name", ["no-such.pcap", "x" * 5000, "no\0file", "x\ny", "\udc80", "/dev/null/x"])
def test_what_is_neither_file_nor_hex_does_not_stop_the_rest(name: str) -> None:
    code, out, err = command(name, ADVERT.hex())
    assert (code, len(out), len(err)) == (1, 1, 1)
    assert "no such file, and not hex" in err[0]
    assert len(err[0]) < 400
    assert err[0].isprintable()


def test_a_directory_is_named(tmp_path: Path) -> None:
    code, out, err = command(tmp_path, ADVERT.hex())
    assert (code, len(out)) == (1, 1)
    assert err == [f"carp-sidecar decode: {tmp_path}: Is a directory"]


def test_a_file_of_another_format_is_named(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a capture")
    code, out, err = command(path, ADVERT.hex())
    assert (code, len(out)) == (1, 1)
    assert err == [f"carp-sidecar decode: {path}: neither pcap nor pcapng; give what tcpdump -w has written"]


def test_a_file_that_is_cut_gives_what_is_there_and_an_error(tmp_path: Path) -> None:
    path = tmp_path / "cut.pcap"
    path.write_bytes(pcap([ethernet(ipv4(ADVERT))] * 2)[:-20])
    code, out, err = command(path, ADVERT.hex(), as_json=True)
    assert [json.loads(line)["reason"] for line in out] == [None, "truncated", None]
    assert (code, err) == (1, [f"carp-sidecar decode: {path}: cut short in packet 2"])


def test_packets_of_other_link_types_are_told_of_once(tmp_path: Path) -> None:
    path = tmp_path / "mixed.pcapng"
    wireless = enhanced(b"wireless", index=1)
    path.write_bytes(
        section()
        + interface()
        + interface(link_type=105)
        + wireless * 3
        + enhanced(ethernet(ipv4(ADVERT)))
        + enhanced(ethernet(b"", 0x0806))
    )
    code, out, err = command(path)
    assert (code, len(out)) == (1, 1)
    assert err == [
        f"carp-sidecar decode: {path}: packets of link type 105 left out; capture on Ethernet or with tcpdump -i any"
    ]


class Failing(io.BytesIO):
    """A file whose disk breaks after ``good`` reads."""

    def __init__(self, data: bytes, good: int) -> None:
        super().__init__(data)
        self._good = good

    def read(self, size: int | None = -1, /) -> bytes:
        self._good -= 1
        if self._good < 0:
            raise OSError(5, "Input/output error")
        return super().read(size)


def test_a_disk_that_breaks_gives_what_came_before() -> None:
    complaints: list[str] = []
    file = Failing(pcap([ethernet(ipv4(ADVERT))] * 2), good=4)
    found = list(file_records("disk.pcap", file, verifier=None, complain=complaints.append))
    assert [r.vhid for r in found] == [42]
    assert complaints == ["disk.pcap: Input/output error"]


def test_packets_come_as_they_are_read() -> None:
    """Of a pipe that never ends, each packet is shown when it is there."""
    first = next(records([ADVERT.hex(), "missing"], verifier=None, complain=pytest.fail))
    assert first.vhid == 42


def test_real_captures_of_every_container(password_file: Path) -> None:
    options: dict[str, str | Path | bool | None] = {
        "vips": "10.77.0.100",
        "password_file": password_file,
        "as_json": True,
    }
    cooked = command(CONTAINERS / "linux-cooked.pcap", **options)
    both = command(CONTAINERS / "two-interfaces.pcapng", **options)
    cut = command(CONTAINERS / "nanoseconds-snaplen-60.pcap", **options)
    whole = [json.loads(line) for line in cooked[1]]
    assert len(whole) == 6
    assert all(r["authentic"] and r["reason"] is None for r in whole)
    expected = [r | {"checksum_ok": None, "authentic": None, "reason": "truncated"} for r in whole]
    assert [json.loads(line) for line in cut[1]] == expected
    by_time = sorted(whole + expected, key=lambda r: (r["time"], r["reason"] or ""))
    assert sorted((json.loads(line) for line in both[1]), key=lambda r: (r["time"], r["reason"] or "")) == by_time
    assert {cooked[0], both[0], cut[0]} == {0}


# --- the options ---


def usage(**options: str | Path) -> str:
    code, out, err = command(ADVERT.hex(), **options)
    assert (code, out, len(err)) == (2, [], 1)
    return err[0]


def test_a_password_needs_the_addresses(password_file: Path) -> None:
    assert usage(password_file=password_file) == (
        "carp-sidecar decode: --password-file needs --vips A,B too: the HMAC covers the group's addresses"
    )


def test_addresses_without_a_password_check_nothing() -> None:
    code, out, _ = command(ADVERT.hex(), vips="10.77.0.100", as_json=True)
    assert (code, json.loads(out[0])["authentic"]) == (0, None)


@pytest.mark.parametrize(
    ("vips", "named"),
    [
        ("10.77.0.300", "'10.77.0.300'"),
        ("10.77.0.100,", "''"),
        ("", "''"),
        ("10.77.0.100 2001:db8::1", "'10.77.0.100 2001:db8::1'"),
        ("10.77.0.100/33", "'10.77.0.100/33'"),
        ("example.org", "'example.org'"),
        ("1\n2", r"'1\n2'"),
    ],
)
def test_a_bad_address_is_named(vips: str, named: str, password_file: Path) -> None:
    expected = f"carp-sidecar decode: --vips: {named} is no address; give the group's, as in 10.77.0.100,2001:db8::100"
    assert usage(vips=vips, password_file=password_file) == expected
    assert usage(vips=vips) == expected


@pytest.mark.parametrize("vips", ["10.77.0.100", "10.77.0.100/32", " 10.77.0.100/24 ", "10.77.0.100,10.77.0.100"])
def test_a_prefix_and_spaces_are_ignored(vips: str, password_file: Path) -> None:
    check = verifier_from_options(vips=vips, password_file=str(password_file))
    assert check is not None
    assert check.authentic(unpack(ADVERT))


def test_several_addresses_of_both_families(password_file: Path) -> None:
    check = verifier_from_options(vips="2001:db8::1/64, 10.77.0.100,fe80::1", password_file=str(password_file))
    assert check is not None
    addresses = [ip_address(a) for a in ("10.77.0.100", "2001:db8::1", "fe80::1")]
    mac = Authenticator(key=key_from_password(PASSWORD), vhid=3, addresses=addresses).sign(7)
    assert check.authentic(Header(vhid=3, advbase=1, advskew=0, counter=7, mac=mac))
    assert not check.authentic(unpack(ADVERT))


@pytest.mark.parametrize(
    ("content", "password"),
    [
        (b"secret", b"secret"),
        (b"secret\n", b"secret"),
        (b"secret\r\n", b"secret"),
        (b"secret\n\n", b"secret\n"),
        (b"secret\r", b"secret\r"),
        (b" secret \n", b" secret "),
        (b"\xff\0\x80", b"\xff\0\x80"),
        (b"12345678901234567890", b"12345678901234567890"),
        (b"12345678901234567890\r\n", b"12345678901234567890"),
    ],
)
def test_of_a_password_file_one_newline_is_left_out(content: bytes, password: bytes, tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_bytes(content)
    check = verifier_from_options(vips=str(VIP), password_file=str(path))
    assert check is not None
    assert check.authentic(unpack(advert(password=password)))


@pytest.mark.parametrize(
    "content", [b"123456789012345678901", b"123456789012345678901\n", b"1" * 9999, b"1" * 22 + b"\n"]
)
def test_a_password_that_is_too_long(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    assert usage(vips=str(VIP), password_file=path) == (
        f"carp-sidecar decode: --password-file {path}: longer than the 20 bytes of a CARP key; "
        "give the group's password"
    )


@pytest.mark.parametrize("content", [b"", b"\n", b"\r\n"])
def test_a_password_that_is_empty(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_bytes(content)
    assert usage(vips=str(VIP), password_file=path) == (
        f"carp-sidecar decode: --password-file {path}: empty; write the group's password into it"
    )


def test_a_password_file_that_cannot_be_read(tmp_path: Path) -> None:
    remedy = "give a readable file that holds the group's password"
    prefix = "carp-sidecar decode: --password-file"
    missing = tmp_path / "missing"
    assert usage(vips=str(VIP), password_file=missing) == (f"{prefix} {missing}: No such file or directory; {remedy}")
    assert usage(vips=str(VIP), password_file=tmp_path) == f"{prefix} {tmp_path}: Is a directory; {remedy}"
    assert usage(vips=str(VIP), password_file="") == f"{prefix} '': No such file or directory; {remedy}"
    assert usage(vips=str(VIP), password_file="a\0b") == (rf"{prefix} 'a\x00b': no file can have this name; {remedy}")


def test_a_password_file_without_end_is_too_long() -> None:
    with pytest.raises(UsageError, match="longer than the 20 bytes"):
        verifier_from_options(vips=str(VIP), password_file="/dev/zero")


# --- the outside world ---


def child(out: int, *inputs: str) -> tuple[int, str]:
    """Run the command in a process of its own whose stdout is ``out``; return exit code and stderr."""
    script = (
        "import sys; from sidecar.decode import run; "
        "sys.exit(run(inputs=sys.argv[1:], as_json=False, vips=None, password_file=None, "
        "out=sys.stdout, err=sys.stderr))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *inputs],
        stdout=out,
        stderr=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        text=True,
        check=False,
        timeout=60,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("packets", [1, 5000], ids=["at-the-last-flush", "while-writing"])
def test_a_reader_that_has_seen_enough_ends_it_quietly(packets: int, tmp_path: Path) -> None:
    path = tmp_path / "long.pcap"
    path.write_bytes(pcap([ethernet(ipv4(ADVERT))] * packets))
    reader, writer = os.pipe()
    os.close(reader)
    try:
        assert child(writer, str(path)) == (0, "")
    finally:
        os.close(writer)


def test_a_full_disk_is_one_line_and_exit_1() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        code, err = child(full, ADVERT.hex())
    finally:
        os.close(full)
    assert (code, err) == (1, "carp-sidecar decode: cannot write the output: No space left on device\n")


class Broken(io.StringIO):
    """An output without a descriptor that takes nothing."""

    def __init__(self, fault: OSError) -> None:
        super().__init__()
        self._fault = fault

    def write(self, _: str, /) -> int:
        raise self._fault


@pytest.mark.parametrize(
    ("fault", "code", "line"),
    [
        (BrokenPipeError(32, "Broken pipe"), 0, ""),
        (OSError(5, "Input/output error"), 1, "carp-sidecar decode: cannot write the output: Input/output error\n"),
    ],
)
def test_an_output_without_a_descriptor_may_break_too(fault: OSError, code: int, line: str) -> None:
    err = io.StringIO()
    found = run(inputs=[ADVERT.hex()], as_json=False, vips=None, password_file=None, out=Broken(fault), err=err)
    assert (found, err.getvalue()) == (code, line)


def test_a_secret_is_in_no_output(tmp_path: Path) -> None:
    secret = "Tr0ub4dor&3-and-longer"
    path = tmp_path / "file"
    path.write_text(secret)
    assert secret[:6] not in usage(vips=str(VIP), password_file=path)
    path.write_text(secret[:20])
    _, out, err = command(ADVERT.hex(), "nonsense", vips=str(VIP), password_file=path)
    assert not re.search(re.escape(secret[:6]), "".join(out + err))
