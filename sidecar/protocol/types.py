"""The protocol's vocabulary: roles, reasons, addresses and a group's settings."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

IPAddress = IPv4Address | IPv6Address

CARP_GROUP = IPv4Address("224.0.0.18")
"""INADDR_CARP_GROUP (OpenBSD netinet/in.h), shared with VRRP."""
IPPROTO_CARP = 112
HOP_LIMIT = 255
BOW_OUT = 255
"""advbase and advskew of a master that says goodbye (``sc_bow_out``, OpenBSD ip_carp.c)."""
HANDS_OVER = 254
"""advskew beside an advbase of 255: a goodbye of one that answers on until somebody has stood up. Each kind takes over,
since he will not be heard in time; ours waits with the bind until he has let go."""
LET_GO = 253
"""advskew beside an advbase of 255: one of ours tells whoever it has yielded to that its kernel has let go."""


def virtual_mac(vhid: int) -> bytes:
    """Return the 6 bytes of a group's virtual MAC (``carp_set_enaddr``, OpenBSD ip_carp.c; RFC 5798, section 7.3)."""
    return bytes((0x00, 0x00, 0x5E, 0x00, 0x01, vhid))


class Role(enum.StrEnum):
    """What a node is for one group."""

    INIT = "init"
    BACKUP = "backup"
    MASTER = "master"


class Reason(enum.StrEnum):
    """Why a role changed, in the words that status, logs and annotations show."""

    START = "start"
    RESUMED = "resumed"
    MASTER_DOWN = "master-down"
    BOW_OUT = "bow-out"
    PREEMPT = "preempt"
    SLOWER_MASTER = "slower-master"
    DEMOTED_MASTER = "demoted-master"
    BETTER_MASTER = "better-master"
    HANDED_OVER = "handed-over"
    LINK_DOWN = "link-down"
    LINK_UP = "link-up"
    BIND_FAILED = "bind-failed"
    LEASE_UNANSWERED = "lease-unanswered"
    WOKE_LATE = "woke-late"
    STOP = "stop"


class DropReason(enum.StrEnum):
    """Why a received packet changed nothing. Each is counted under its own name."""

    TRUNCATED = "truncated"
    BAD_IP_HEADER = "bad-ip-header"
    FRAGMENT = "fragment"
    NOT_CARP = "not-carp"
    BAD_TTL = "bad-ttl"
    WRONG_DESTINATION = "wrong-destination"
    BAD_VERSION = "bad-version"
    BAD_CHECKSUM = "bad-checksum"
    UNKNOWN_VHID = "unknown-vhid"
    OWN_ECHO = "own-echo"
    BAD_HMAC = "bad-hmac"
    BROKEN_SEAL = "broken-seal"
    REPLAYED = "replayed"
    CLOCK_SKEW = "clock-skew"


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupConfig:
    """One vhid on one interface, as the state machine needs it.

    ``advbase`` is in seconds (0..254), ``advskew`` in 1/256 s (0..254), ``dead_ratio`` in intervals (>= 1).
    ``source`` is the address that our own adverts carry; where they go out over both families, ``second_source`` is
    the one of the other family.
    """

    name: str
    vhid: int
    source: IPAddress
    second_source: IPAddress | None = None
    advbase: int = 1
    advskew: int = 0
    dead_ratio: int = 3
    preempt: bool = False
    preempt_delay: float = 0.0
    """Seconds after the start or the link's return before it preempts a living master."""
    startup_delay: float = 0.0
    """Seconds after the start or the link's return before it becomes master for any reason."""
    lease: float = 2.0
    """Seconds that the kernel keeps the VIPs after each renewal."""
