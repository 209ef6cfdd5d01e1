import hashlib
import hmac
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest

from sidecar.protocol.auth import KEY_LENGTH, Authenticator, key_from_password
from sidecar.protocol.types import IPAddress

KEY = key_from_password(b"secret")
COUNTER = 0x0123456789ABCDEF


def group(*addresses: str, vhid: int = 1, key: bytes = KEY) -> Authenticator:
    return Authenticator(key=key, vhid=vhid, addresses=[ip_address(a) for a in addresses])


def expected(*packed: bytes, vhid: int = 1, counter: int = COUNTER) -> bytes:
    """The message as ip_carp.c makes it, through another implementation of HMAC."""
    message = b"\x02\x01" + bytes((vhid,)) + b"".join(packed) + counter.to_bytes(8, "big")
    return hmac.new(KEY, message, hashlib.sha1).digest()


def packed(*addresses: str) -> tuple[bytes, ...]:
    return tuple(ip_address(a).packed for a in addresses)


def test_a_key_is_the_password_padded_with_zeros() -> None:
    assert key_from_password(b"secret") == b"secret" + bytes(14)
    assert key_from_password(b"") == bytes(20)
    assert key_from_password(b"12345678901234567890") == b"12345678901234567890"


def test_a_password_of_21_bytes_is_refused_without_showing_it() -> None:
    with pytest.raises(ValueError, match="21 bytes where a CARP key takes at most 20") as caught:
        key_from_password(b"123456789012345678901")
    assert "1234567" not in str(caught.value)


@pytest.mark.parametrize("length", [0, KEY_LENGTH - 1, KEY_LENGTH + 1])
def test_a_key_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="20 bytes"):
        Authenticator(key=bytes(length), vhid=1, addresses=[])


def test_sign_hashes_version_type_vhid_addresses_counter() -> None:
    assert group("10.0.0.1").sign(COUNTER) == expected(*packed("10.0.0.1"))
    assert group("10.0.0.1", vhid=255).sign(0) == expected(*packed("10.0.0.1"), vhid=255, counter=0)
    assert group("10.0.0.1").sign(2**64 - 1) == expected(*packed("10.0.0.1"), counter=2**64 - 1)


def test_addresses_are_hashed_ipv4_first_each_ascending_and_once() -> None:
    wire = expected(*packed("9.255.255.255", "10.0.0.200", "10.0.1.3", "2001:db8::1", "2001:db8::2"))
    signed = group(
        "2001:db8::2", "10.0.1.3", "9.255.255.255", "2001:db8::1", "10.0.0.200", "10.0.0.200", "2001:db8::1"
    ).sign(COUNTER)
    assert signed == wire


@pytest.mark.parametrize("address", ["0.0.0.0", "255.255.255.255", "::", "ffff:" * 7 + "ffff"])
def test_all_zeros_and_all_ones_are_never_hashed(address: str) -> None:
    assert group("10.0.0.1", address).sign(COUNTER) == expected(*packed("10.0.0.1"))


@pytest.mark.parametrize(
    ("address", "hashed"),
    [
        ("fe80:1234::1", "fe80::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("febf:1::1", "febf::1"),
        ("ff01:2::12", "ff01::12"),
        ("ff02:2::12", "ff02::12"),
        ("ff12:2::12", "ff12::12"),
        ("fec0:1::1", "fec0:1::1"),
        ("ff05:2::12", "ff05:2::12"),
        ("fd80:1::1", "fd80:1::1"),
    ],
)
def test_scoped_addresses_are_hashed_without_their_scope(address: str, hashed: str) -> None:
    assert group(address).sign(COUNTER) == expected(*packed(hashed))


def test_both_forms_of_a_group_with_link_local_addresses_are_accepted() -> None:
    both = group("2001:db8::1", "fe80::1")
    with_link_local = expected(*packed("2001:db8::1", "fe80::1"))
    without = expected(*packed("2001:db8::1"))
    assert both.sign(COUNTER) == with_link_local
    assert both.verify(COUNTER, with_link_local)
    assert both.verify(COUNTER, without)
    assert not both.verify(COUNTER, expected(*packed("fe80::1")))


def test_a_group_without_link_local_addresses_accepts_one_form() -> None:
    one = group("10.0.0.1", "2001:db8::1")
    assert one.verify(COUNTER, expected(*packed("10.0.0.1", "2001:db8::1")))
    assert not one.verify(COUNTER, expected(*packed("10.0.0.1")))
    assert not one.verify(COUNTER, expected())


@pytest.mark.parametrize("bit", range(160))
def test_one_wrong_bit_of_the_hmac_is_refused(bit: int) -> None:
    one = group("10.0.0.1")
    mac = int.from_bytes(one.sign(COUNTER), "big") ^ 1 << bit
    assert not one.verify(COUNTER, mac.to_bytes(20, "big"))


def test_another_counter_vhid_key_or_length_is_refused() -> None:
    one = group("10.0.0.1")
    mac = one.sign(COUNTER)
    assert one.verify(COUNTER, mac)
    assert not one.verify(COUNTER + 1, mac)
    assert not group("10.0.0.1", vhid=2).verify(COUNTER, mac)
    assert not group("10.0.0.1", key=key_from_password(b"Secret")).verify(COUNTER, mac)
    assert not one.verify(COUNTER, mac[:19])
    assert not one.verify(COUNTER, b"")
    assert not one.verify(COUNTER, mac + b"\0")


def test_signing_leaves_the_prepared_state_alone() -> None:
    one = group("10.0.0.1")
    assert [one.sign(1), one.sign(2), one.sign(1)] == [expected(*packed("10.0.0.1"), counter=c) for c in (1, 2, 1)]


def test_addresses_may_come_from_any_iterable() -> None:
    addresses: tuple[IPAddress, ...] = (IPv6Address("2001:db8::1"), IPv4Address("10.0.0.1"))
    once = Authenticator(key=KEY, vhid=1, addresses=iter(addresses))
    assert once.sign(COUNTER) == expected(*packed("10.0.0.1", "2001:db8::1"))
