"""What a group wants done: the output of ``Group.handle``, to be carried out in order.

Ordering duties: an Announce comes only after the lease was confirmed; the bow-out only after it was released, so
that at no time two nodes answer.
"""

from __future__ import annotations

from dataclasses import dataclass

from sidecar.protocol.types import IPAddress, Reason, Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Advertise:
    """Send one advert with these values."""

    advbase: int
    advskew: int
    demotion: int


@dataclass(frozen=True, slots=True)
class AdvertiseTo:
    """Send an advert by unicast to a rival, who may not hear what is sent to all; or the word of who has let go."""

    advert: Advertise
    target: IPAddress


@dataclass(frozen=True, slots=True)
class Bind:
    """Lease the VIPs to this node, for as long as ``timing.standing`` says from now; LeaseAnswered follows."""


@dataclass(frozen=True, slots=True)
class Renew:
    """Extend the lease likewise, counted from the advert that it comes with; LeaseAnswered follows."""


@dataclass(frozen=True, slots=True)
class Release:
    """Give the VIPs up at once; LeaseReleased follows."""


@dataclass(frozen=True, slots=True)
class Announce:
    """Tell the LAN where the VIPs are (gratuitous ARP, unsolicited NA)."""


@dataclass(frozen=True, slots=True)
class HeldBack:
    """Tell people why this node does not take over; ``detail`` is a sentence."""

    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleChanged:
    """The role changed; ``detail`` is a sentence for people."""

    before: Role
    after: Role
    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The group has handed over and needs no more events."""


Effect = Advertise | AdvertiseTo | Bind | Renew | Release | Announce | HeldBack | RoleChanged | Finished
