"""The HMAC of a CARP group: which bytes it covers, and its comparison in constant time.

Message (``carp_hmac_prepare`` and ``carp_hmac_generate``, ip_carp.c of OpenBSD, FreeBSD and NetBSD;
``carp_hmac_generate`` of ucarp): 02 | 01 | vhid | IPv4 addresses ascending | IPv6 addresses ascending | counter
(8 bytes). It covers neither advskew, advbase nor demotion.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address
from typing import assert_never

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.hmac import HMAC

from sidecar.protocol.types import IPAddress

KEY_LENGTH = 20

_NEVER_HASHED = frozenset({bytes(4), b"\xff" * 4, bytes(16), b"\xff" * 16})


def key_from_password(password: bytes) -> bytes:
    """Return the 20-byte key: the password's raw bytes, zero-padded. Raises ValueError beyond 20 bytes."""
    if len(password) > KEY_LENGTH:
        raise ValueError(f"{len(password)} bytes where a CARP key takes at most {KEY_LENGTH}")
    return password.ljust(KEY_LENGTH, b"\0")


class Authenticator:
    """Signs and verifies the adverts of one group.

    ``key`` is 20 bytes; ``addresses`` are the group's VIPs in any order. The part of the message before the counter is
    hashed once here and the state copied for each packet.
    """

    __slots__ = ("_accepted", "_signing")

    def __init__(self, *, key: bytes, vhid: int, addresses: Iterable[IPAddress]) -> None:
        if len(key) != KEY_LENGTH:
            raise ValueError(f"a CARP key takes {KEY_LENGTH} bytes")
        every = tuple(addresses)
        # OpenBSD sends HMAC_NOV6LL (without link-local IPv6) and accepts HMAC_ORIG (with it) too; the others send ORIG.
        without_link_local = _prepare(key, vhid, [a for a in every if not _is_scoped(a)])
        self._signing = _prepare(key, vhid, every)
        self._accepted: tuple[HMAC, ...] = (self._signing,)
        if any(_is_scoped(a) for a in every):
            self._accepted = (self._signing, without_link_local)

    def sign(self, counter: int) -> bytes:
        """Return the HMAC-SHA1 (20 bytes) of an advert with this 64-bit counter."""
        state = self._signing.copy()
        state.update(counter.to_bytes(8, "big"))
        return state.finalize()

    def verify(self, counter: int, mac: bytes) -> bool:
        """Tell, in constant time, whether ``mac`` (20 bytes) belongs to ``counter`` in this group."""
        wire = counter.to_bytes(8, "big")
        return any(_matches(prepared, wire, mac) for prepared in self._accepted)


def _matches(prepared: HMAC, counter: bytes, mac: bytes) -> bool:
    state = prepared.copy()
    state.update(counter)
    try:
        state.verify(mac)
    except InvalidSignature:
        return False
    return True


def _prepare(key: bytes, vhid: int, addresses: Iterable[IPAddress]) -> HMAC:
    v4, v6 = set(), set()
    for address in addresses:
        match address:
            case IPv4Address():
                v4.add(address.packed)
            case IPv6Address():
                v6.add(_without_scope(address))
            case _:
                assert_never(address)
    state = HMAC(key, SHA1())  # noqa: S303 - the protocol's own algorithm
    state.update(bytes((2, 1, vhid)))
    for packed in sorted(v4 - _NEVER_HASHED) + sorted(v6 - _NEVER_HASHED):
        state.update(packed)
    return state


def _is_scoped(address: IPAddress) -> bool:
    """Link-local unicast, and interface- or link-local multicast (``in6_embedscope``)."""
    if isinstance(address, IPv4Address):
        return False
    packed = address.packed
    return (packed[0] == 0xFE and packed[1] & 0xC0 == 0x80) or (packed[0] == 0xFF and packed[1] & 0x0F in (1, 2))


def _without_scope(address: IPv6Address) -> bytes:
    packed = address.packed
    return packed[:2] + bytes(2) + packed[4:] if _is_scoped(address) else packed
