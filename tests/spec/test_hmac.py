"""What an advert's HMAC covers and under which key (``carp_hmac_prepare``, ip_carp.c of the BSDs; ucarp's carp.c)."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address
from itertools import permutations
from typing import Any

import pytest

from sidecar.config.values import FaultError, password
from sidecar.protocol.auth import Authenticator, key_from_password
from sidecar.protocol.packet import pack, unpack
from sidecar.protocol.types import DropReason
from tests.fakes.plans import KEY
from tests.fakes.station import StartStation
from tests.fakes.wire import VHID, VIP, advert, digest, in_order, ipv4, packed

COUNTER = 0x0123456789ABCDEF
LINK_LOCAL, GLOBAL = "fe80::200:5eff:fe00:12a", "2001:db8::1"


def group(*vips: str, key: bytes = KEY, vhid: int = VHID) -> Authenticator:
    return Authenticator(key=key, vhid=vhid, addresses=[ip_address(vip) for vip in vips])


def signed(*vips: str) -> bytes:
    return group(*vips).sign(COUNTER)


def expected(*in_this_order: str) -> bytes:
    return digest(COUNTER, hashed=packed(*in_this_order))


# The key -------------------------------------------------------------------------------------------------------------


def test_the_key_is_the_passwords_raw_bytes_zero_padded_to_20_and_never_hashed() -> None:
    assert key_from_password(b"secret") == b"secret" + bytes(14)
    assert key_from_password("pässwörd".encode()) == "pässwörd".encode() + bytes(10)
    assert key_from_password(b"12345678901234567890") == b"12345678901234567890"


def test_the_hmac_is_standard_hmac_sha1_with_a_block_of_64_bytes() -> None:
    """RFC 2104 spelled out: ipad 0x36, opad 0x5c."""
    block = KEY.ljust(64, b"\0")
    message = b"\x02\x01" + bytes((VHID,)) + VIP.packed + COUNTER.to_bytes(8, "big")
    inner = hashlib.sha1(bytes(byte ^ 0x36 for byte in block) + message).digest()
    assert group(str(VIP)).sign(COUNTER) == hashlib.sha1(bytes(byte ^ 0x5C for byte in block) + inner).digest()


def test_a_password_of_19_bytes_is_the_longest_that_ucarp_and_ifconfig_take_and_20_fill_the_key() -> None:
    assert password(b"x" * 19) == key_from_password(b"x" * 19)[:19]
    assert password(b"x" * 20) == key_from_password(b"x" * 20)


def test_a_longer_password_is_refused_and_never_truncated_as_ifconfig_does() -> None:
    with pytest.raises(FaultError):
        password(b"x" * 21)
    with pytest.raises(ValueError, match="at most 20"):
        key_from_password(b"x" * 21)


def test_an_empty_password_is_refused_as_ucarp_does() -> None:
    with pytest.raises(FaultError):
        password(b"")


def test_ucarps_19_byte_password_is_not_the_20_byte_one_that_ifconfig_would_have_cut() -> None:
    cut = group(str(VIP), key=key_from_password(b"x" * 19))
    assert not cut.verify(COUNTER, group(str(VIP), key=key_from_password(b"x" * 20)).sign(COUNTER))


def test_a_shorter_password_leaves_no_old_tail_in_the_key_as_openbsds_and_freebsds_ifconfig_do() -> None:
    stale = b"new\0password".ljust(20, b"\0")  # "old-password" overwritten by "new"
    assert key_from_password(b"new") == b"new".ljust(20, b"\0") != stale
    assert not group(str(VIP), key=key_from_password(b"new")).verify(
        COUNTER, digest(COUNTER, hashed=VIP.packed, key=stale)
    )


# The message ---------------------------------------------------------------------------------------------------------


def test_the_message_is_version_type_vhid_ipv4_addresses_ipv6_addresses_counter() -> None:
    assert signed("10.0.0.1", GLOBAL) == expected("10.0.0.1", GLOBAL)


def test_version_and_type_are_two_bytes_and_not_the_headers_nibbles() -> None:
    """scapy's contrib/carp.py hashes 0x21, and leaves the counter out."""
    nibbles = hmac.new(KEY, b"\x21" + bytes((VHID,)) + VIP.packed + COUNTER.to_bytes(8, "big"), hashlib.sha1)
    without_counter = hmac.new(KEY, b"\x02\x01" + bytes((VHID,)) + VIP.packed, hashlib.sha1)
    for wrong in (nibbles, without_counter):
        assert not group(str(VIP)).verify(COUNTER, wrong.digest())


@pytest.mark.parametrize("type_", [0, 2, 15])
def test_the_type_in_the_hash_is_always_1_and_the_received_one_is_not_used(station: StartStation, type_: int) -> None:
    assert station().hear(ipv4(advert(first=0x20 | type_))) is None
    with_type = hmac.new(KEY, bytes((2, type_, VHID)) + VIP.packed + (7).to_bytes(8, "big"), hashlib.sha1).digest()
    assert station().hear(ipv4(advert(first=0x20 | type_, mac=with_type))) is DropReason.BAD_HMAC


def test_the_vhid_is_covered() -> None:
    assert not group(str(VIP), vhid=7).verify(COUNTER, group(str(VIP), vhid=8).sign(COUNTER))


def test_the_counter_is_covered_as_its_8_wire_bytes() -> None:
    ours = group(str(VIP))
    for counter in (0, 1, COUNTER, 2**64 - 1):
        assert ours.sign(counter) == digest(counter, hashed=VIP.packed)
    assert not ours.verify(COUNTER ^ 1, ours.sign(COUNTER))


@pytest.mark.parametrize(
    "edited",
    [{"advskew": 0}, {"advbase": 255}, {"demotion": 255}, {"auth_length": 0}, {"checksum": 0}],
    ids=lambda edited: next(iter(edited)),
)
def test_advskew_advbase_demotion_authlen_and_checksum_are_not_covered(
    station: StartStation, edited: dict[str, Any]
) -> None:
    """So in the open modes a replay with edited values verifies, once its checksum is mended."""
    original = unpack(advert(advskew=100))
    assert station(replay="compat").hear(ipv4(pack(replace(original, **edited)))) is None


# The addresses -------------------------------------------------------------------------------------------------------


def test_ipv4_addresses_are_hashed_ascending_as_unsigned_numbers_in_host_order() -> None:
    """Not as signed ones (128.0.0.1 last), nor as little-endian s_addr (the last octet first)."""
    ascending = ("1.0.0.2", "9.255.255.255", "10.0.0.200", "10.0.1.3", "127.0.0.1", "128.0.0.1")
    assert signed(*reversed(ascending)) == expected(*ascending)


def test_ipv6_addresses_are_hashed_ascending_by_memcmp_after_all_ipv4_ones() -> None:
    ascending = ("10.1.1.1", "200.1.1.2", "2001:db8::1", "2001:db8::ffff", "2001:db8:0:1::", "fd00::1")
    assert signed(*reversed(ascending)) == expected(*ascending)


def test_the_order_in_which_addresses_are_configured_does_not_matter() -> None:
    vips = ("10.0.0.3", "10.0.0.1", GLOBAL, "10.0.0.2")
    assert {signed(*order) for order in permutations(vips)} == {expected("10.0.0.1", "10.0.0.2", "10.0.0.3", GLOBAL)}


def test_a_freebsd_of_2005_hashed_in_interface_order_and_is_heard_where_that_is_ascending() -> None:
    ours = group("10.0.0.1", "10.0.0.2")
    assert ours.verify(COUNTER, expected("10.0.0.1", "10.0.0.2"))
    assert not ours.verify(COUNTER, expected("10.0.0.2", "10.0.0.1"))


@pytest.mark.parametrize("never", ["0.0.0.0", "255.255.255.255", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"])
def test_all_zeros_and_all_ones_are_never_hashed(never: str) -> None:
    assert signed("10.0.0.1", never, GLOBAL) == expected("10.0.0.1", GLOBAL)


def test_an_address_that_is_there_twice_is_hashed_once() -> None:
    assert signed("10.0.0.1", "10.0.0.1", GLOBAL, GLOBAL) == expected("10.0.0.1", GLOBAL)


@pytest.mark.parametrize(
    ("scoped", "hashed"),
    [
        ("fe80:7::1", "fe80::1"),
        ("febf:ffff::1", "febf::1"),
        ("ff02:7::1", "ff02::1"),
        ("ff01:7::1", "ff01::1"),
    ],
)
def test_scoped_ipv6_addresses_are_hashed_with_bytes_2_and_3_as_0(scoped: str, hashed: str) -> None:
    """Where the BSDs' kernels keep the interface's number."""
    assert signed(scoped) == expected(hashed)


@pytest.mark.parametrize("unscoped", ["fec0:7::1", "ff05:7::1", "fd00:7::1"])
def test_other_ipv6_addresses_are_hashed_as_they_are(unscoped: str) -> None:
    assert signed(unscoped) == expected(unscoped)


# OpenBSD's two forms -------------------------------------------------------------------------------------------------


def test_openbsd_signs_without_link_local_addresses_and_is_accepted() -> None:
    """HMAC_NOV6LL; the link-local address may be a VIP of ours all the same."""
    assert group(LINK_LOCAL, GLOBAL).verify(COUNTER, expected(GLOBAL))


def test_we_sign_with_link_local_addresses_as_freebsd_and_netbsd_do_which_openbsd_accepts_too() -> None:
    """HMAC_ORIG."""
    assert signed(LINK_LOCAL, GLOBAL) == expected(GLOBAL, LINK_LOCAL)
    assert group(LINK_LOCAL, GLOBAL).verify(COUNTER, expected(GLOBAL, LINK_LOCAL))


def test_the_link_local_address_that_openbsd_makes_by_itself_need_not_be_ours() -> None:
    """fe80::200:5eff:fe00:1XX from the virtual MAC: it signs without it and accepts that form from others."""
    assert signed(GLOBAL) == expected(GLOBAL)
    assert group(GLOBAL).verify(COUNTER, expected(GLOBAL))


def test_no_third_form_is_accepted() -> None:
    ours = group("10.0.0.1", LINK_LOCAL, GLOBAL)
    for other in (("10.0.0.1", LINK_LOCAL), ("10.0.0.1",), (GLOBAL, LINK_LOCAL), ()):
        assert not ours.verify(COUNTER, expected(*other))


def test_an_openbsd_whose_lladdr_was_set_by_hand_hashes_it_and_is_not_heard(station: StartStation) -> None:
    """Its MAC stands between type and vhid: nothing that a peer could know."""
    mac = digest(7, hashed=VIP.packed, extra=bytes.fromhex("020000000099"))
    assert station().hear(ipv4(advert(mac=mac))) is DropReason.BAD_HMAC


# ucarp ---------------------------------------------------------------------------------------------------------------


def ucarp(vip: str) -> bytes:
    """It hashes exactly one IPv4 address."""
    return expected(vip)


@pytest.mark.parametrize(
    ("vips", "heard"),
    [(("10.0.0.200",), True), (("10.0.0.200", "10.0.0.201"), False), (("10.0.0.200", GLOBAL), False)],
)
def test_ucarp_hashes_one_ipv4_address_so_a_group_with_it_has_exactly_one(vips: tuple[str, ...], heard: bool) -> None:
    assert group(*vips).verify(COUNTER, ucarp("10.0.0.200")) is heard


# What a receiver makes of it -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mac",
    [
        lambda: bytes(20),
        lambda: digest(7, hashed=VIP.packed, key=key_from_password(b"other")),
        lambda: digest(7, hashed=VIP.packed, vhid=VHID + 1),
        lambda: digest(8, hashed=VIP.packed),
        lambda: digest(7, hashed=in_order([VIP + 1])),
        lambda: digest(7, hashed=b""),
    ],
    ids=["none", "another-password", "another-vhid", "another-counter", "another-vip", "no-vip"],
)
def test_an_advert_whose_hmac_is_not_the_groups_is_dropped(station: StartStation, mac: Callable[[], bytes]) -> None:
    assert station().hear(ipv4(advert(mac=mac()))) is DropReason.BAD_HMAC


def test_an_advert_whose_hmac_is_the_groups_is_heard(station: StartStation) -> None:
    assert station().hear(ipv4(advert())) is None
