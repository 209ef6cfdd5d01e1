"""CARP told from VRRP, which shares its protocol number, its multicast group and VRRPv2's first byte."""

from __future__ import annotations

import enum

from sidecar.protocol.packet import AUTH_LENGTH, HEADER_LENGTH, checksum_ok, internet_checksum

_CARP_OR_VRRP2, _VRRP3 = 0x21, 0x31  # version << 4 | type
_COUNT_AT = 3
_VRRP2_FIXED = 16
"""8 bytes of header and 8 of authentication data around the addresses (RFC 3768, section 5.1)."""
_VRRP3_FIXED = 8


class WireProtocol(enum.StrEnum):
    """Who speaks IP protocol 112."""

    CARP = "CARP"
    VRRP2 = "VRRPv2"
    VRRP3 = "VRRPv3"


def wire_protocol(payload: bytes) -> WireProtocol:
    """Tell which protocol an IP payload is, by its length and its count of addresses; in doubt it is CARP.

    VRRPv2 (RFC 3768) must also have the right checksum over all of it; CARP's version is never 3, as VRRPv3's is
    (RFC 9568, section 5.1). Both have their virtual router's number where CARP has the vhid.
    """
    if len(payload) < _VRRP3_FIXED:
        return WireProtocol.CARP
    count, rest = payload[_COUNT_AT], len(payload) - _VRRP3_FIXED
    if payload[0] == _VRRP3 and count and rest in {count * 4, count * 16}:
        return WireProtocol.VRRP3
    if (
        payload[0] == _CARP_OR_VRRP2
        and len(payload) == _VRRP2_FIXED + count * 4
        and internet_checksum(payload) == 0
        and not _is_sound_carp(payload)
    ):
        return WireProtocol.VRRP2
    return WireProtocol.CARP


def _is_sound_carp(payload: bytes) -> bool:
    return payload[_COUNT_AT] == AUTH_LENGTH and len(payload) >= HEADER_LENGTH and checksum_ok(payload)
