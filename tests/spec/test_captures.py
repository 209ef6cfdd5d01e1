"""Every advert that real ucarp and NetBSD sent (data/captures)."""

from collections import Counter
from ipaddress import ip_address
from pathlib import Path

import pytest

from sidecar.decode import Record, Verifier, file_records
from sidecar.protocol.auth import key_from_password
from sidecar.protocol.types import DropReason
from tests.fakes.captures import CAPTURES

A, B, NETBSD = "10.77.0.1", "10.77.0.2", "10.77.0.3"

# `tshark -r FILE -Y ip.proto==112 -T fields -e ip.src | sort | uniq -c` (4.0.17)
ADVERTS = {
    "01-start-master.pcap": {A: 3},
    "02-backup-takeover.pcap": {A: 8, B: 2},
    "03-preempt.pcap": {A: 5, B: 4},
    "04-nopreempt.pcap": {B: 6},
    "05-broadcast-M.pcap": {A: 6, B: 3},
    "06-sigusr2-demote.pcap": {A: 11, B: 2},
    "08-link-admin-down.pcap": {A: 2},
    "09-carrier-loss.pcap": {A: 10},
    "10-advbase0-skew64.pcap": {A: 13, B: 8},
    "11-pw19-vhid255.pcap": {A: 2},
    "13-password-mismatch.pcap": {A: 9, B: 5},
    "14-sigterm-without-z.pcap": {A: 2},
    "bsd-01-ucarp-master-bsd-backup-takeover.pcap": {A: 9, NETBSD: 4},
    "bsd-03-bsd-preempts-ucarp.pcap": {A: 4, NETBSD: 7},
}
PASSWORDS = {"11-pw19-vhid255.pcap": b"1234567890123456789"}
MISMATCH = "13-password-mismatch.pcap"


def adverts(name: str, password: bytes) -> list[Record]:
    """Decode a capture; no file is cut, so a complaint is a failure."""
    check = Verifier(key=key_from_password(password), addresses=[ip_address("10.77.0.100")])
    with (CAPTURES / name).open("rb") as file:
        return list(file_records(name, file, verifier=check, complain=pytest.fail))


def test_every_capture_is_known() -> None:
    assert {path.name for path in Path(CAPTURES).glob("*.pcap")} == set(ADVERTS)


@pytest.mark.parametrize("name", ADVERTS)
def test_the_adverts_are_those_that_tshark_finds(name: str) -> None:
    assert Counter(r.source for r in adverts(name, b"")) == ADVERTS[name]


@pytest.mark.parametrize("name", sorted(set(ADVERTS) - {MISMATCH}))
def test_every_advert_is_authentic(name: str) -> None:
    found = adverts(name, PASSWORDS.get(name, b"secret"))
    assert {(r.destination, r.checksum_ok, r.authentic, r.reason) for r in found} == {("224.0.0.18", True, True, None)}
    assert {r.vhid for r in found} == {255 if name in PASSWORDS else 42}
    assert [r.time for r in found] == sorted(r.time or "" for r in found)


@pytest.mark.parametrize("name", ADVERTS)
def test_no_advert_is_authentic_with_another_password(name: str) -> None:
    found = adverts(name, b"SECRET")
    assert {(r.authentic, r.reason) for r in found} == {(False, DropReason.BAD_HMAC)}


@pytest.mark.parametrize(("password", "sender"), [(b"secret", A), (b"Secret", B)])
def test_of_two_passwords_each_is_one_senders(password: bytes, sender: str) -> None:
    found = adverts(MISMATCH, password)
    assert {r.source for r in found} == {A, B}
    for record in found:
        own = record.source == sender
        assert (record.authentic, record.reason) == (own, None if own else DropReason.BAD_HMAC)


def test_a_backup_goes_on_with_its_masters_counter() -> None:
    found = adverts("02-backup-takeover.pcap", b"secret")
    last_of_a = [r.counter for r in found if r.source == A][-1]
    assert last_of_a is not None
    assert [r.counter for r in found if r.source == B] == [last_of_a + 1, last_of_a + 2]


@pytest.mark.parametrize(
    ("name", "timing"),
    [
        ("05-broadcast-M.pcap", {(A, 1, 0), (B, 1, 50)}),
        ("10-advbase0-skew64.pcap", {(A, 0, 64), (B, 0, 128)}),
        ("11-pw19-vhid255.pcap", {(A, 1, 255)}),
        ("bsd-01-ucarp-master-bsd-backup-takeover.pcap", {(A, 1, 0), (NETBSD, 1, 100)}),
        ("bsd-03-bsd-preempts-ucarp.pcap", {(A, 1, 50), (NETBSD, 1, 0)}),
    ],
)
def test_who_advertised_what(name: str, timing: set[tuple[str, int, int]]) -> None:
    assert {(r.source, r.advbase, r.advskew) for r in adverts(name, b"secret")} == timing
