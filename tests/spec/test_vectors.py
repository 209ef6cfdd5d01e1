"""Every packet that the original C code of OpenBSD, FreeBSD, NetBSD and ucarp computed (data/vectors.json)."""

import json
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest

from sidecar.decode import Verifier, header_record
from sidecar.protocol.auth import Authenticator, key_from_password
from sidecar.protocol.packet import Header, checksum_ok, pack, unpack
from sidecar.protocol.types import DropReason, IPAddress
from tests.fakes.captures import DATA

Vector = dict[str, Any]
VECTORS: list[Vector] = json.loads((DATA / "vectors.json").read_text("utf-8"))


def identity(vector: Vector) -> str:
    return f"{vector['impl']}: {vector['note']}"


every_vector = pytest.mark.parametrize("vector", VECTORS, ids=identity)


def wire(vector: Vector) -> bytes:
    return bytes.fromhex(vector["header"])


def key(vector: Vector) -> bytes:
    return key_from_password(bytes.fromhex(vector["password_hex"]))


def addresses(vector: Vector) -> list[IPAddress]:
    return [ip_address(a) for a in vector["ipv4"] + vector["ipv6"]]


def authenticator(vector: Vector) -> Authenticator:
    return Authenticator(key=key(vector), vhid=vector["vhid"], addresses=addresses(vector))


def verifier(vector: Vector) -> Verifier:
    return Verifier(key=key(vector), addresses=addresses(vector))


def header(vector: Vector) -> Header:
    """What the vector says in words."""
    return Header(
        version=vector["version"],
        type=vector["type"],
        vhid=vector["vhid"],
        advbase=vector["advbase"],
        advskew=vector["advskew"],
        demotion=vector["byte4"],
        counter=int(vector["counter_hex"], 16),
        mac=bytes.fromhex(vector["hmac"]),
    )


def test_the_vectors_are_all_there() -> None:
    assert [sum(v["impl"] == i for v in VECTORS) for i in ("openbsd", "freebsd", "netbsd", "ucarp")] == [
        15,
        14,
        13,
        7,
    ]
    assert len({identity(v) for v in VECTORS}) == len(VECTORS)


@every_vector
def test_its_key(vector: Vector) -> None:
    assert key(vector).hex() == vector["key_hex"]


@every_vector
def test_it_is_authentic(vector: Vector) -> None:
    found = header_record(wire(vector), verifier=verifier(vector))
    assert (found.checksum_ok, found.authentic, found.reason) == (True, True, None)


@every_vector
def test_its_fields_are_read(vector: Vector) -> None:
    found = header_record(wire(vector), verifier=None)
    assert (found.vhid, found.advbase, found.advskew, found.demotion, found.counter) == (
        vector["vhid"],
        vector["advbase"],
        vector["advskew"],
        vector["byte4"],
        int(vector["counter_hex"], 16),
    )
    assert replace(unpack(wire(vector)), checksum=0) == header(vector)


@every_vector
def test_it_is_packed_bit_for_bit(vector: Vector) -> None:
    assert pack(header(vector)).hex() == vector["header"]


@every_vector
def test_it_is_signed_alike(vector: Vector) -> None:
    """OpenBSD alone leaves link-local addresses out; what it calls the original form is what all others sign."""
    ours = authenticator(vector).sign(int(vector["counter_hex"], 16))
    assert ours.hex() == vector.get("hmac_orig_also_accepted", vector["hmac"])


@pytest.mark.parametrize("vector", [v for v in VECTORS if v["impl"] == "openbsd"], ids=identity)
def test_the_other_form_that_openbsd_accepts_is_accepted(vector: Vector) -> None:
    mac = bytes.fromhex(vector["hmac_orig_also_accepted"])
    found = header_record(pack(replace(header(vector), mac=mac)), verifier=verifier(vector))
    assert (found.authentic, found.reason) == (True, None)


def test_the_two_forms_differ_where_a_group_has_link_local_addresses() -> None:
    differing = [v for v in VECTORS if v.get("hmac_orig_also_accepted", v["hmac"]) != v["hmac"]]
    assert [v["ipv6"][0] for v in differing] == ["fe80::200:5eff:fe00:103"]


@every_vector
def test_any_wrong_bit_of_its_hmac_or_counter_is_found(vector: Vector) -> None:
    check = verifier(vector)
    for bit in range(8 * 8, 36 * 8):
        wrong = bytearray(wire(vector))
        wrong[bit // 8] ^= 1 << bit % 8
        mended = pack(unpack(bytes(wrong)))
        found = header_record(mended, verifier=check)
        assert (found.checksum_ok, found.authentic, found.reason) == (True, False, DropReason.BAD_HMAC), bit


@every_vector
def test_a_wrong_checksum_is_found_and_leaves_the_hmac_alone(vector: Vector) -> None:
    for bit in range(6 * 8, 8 * 8):
        wrong = bytearray(wire(vector))
        wrong[bit // 8] ^= 1 << bit % 8
        assert not checksum_ok(bytes(wrong))
        found = header_record(bytes(wrong), verifier=verifier(vector))
        assert (found.checksum_ok, found.authentic, found.reason) == (False, True, DropReason.BAD_CHECKSUM), bit


@every_vector
def test_the_hmac_of_another_vhid_is_not_its_own(vector: Vector) -> None:
    moved = pack(replace(header(vector), vhid=vector["vhid"] % 255 + 1))
    found = header_record(moved, verifier=verifier(vector))
    assert (found.authentic, found.reason) == (False, DropReason.BAD_HMAC)


@every_vector
def test_another_password_or_address_is_not_its_own(vector: Vector) -> None:
    other_key = Verifier(key=key_from_password(b"another"), addresses=addresses(vector))
    assert not other_key.authentic(header(vector))
    other_group = Verifier(key=key(vector), addresses=[*addresses(vector), ip_address("192.0.2.1")])
    assert not other_group.authentic(header(vector))


@every_vector
def test_advskew_advbase_and_demotion_are_not_signed(vector: Vector) -> None:
    """The protocol's own gap: whoever replays a packet may edit these."""
    edited = replace(header(vector), advbase=7, advskew=7, demotion=7)
    assert header_record(pack(edited), verifier=verifier(vector)).authentic
