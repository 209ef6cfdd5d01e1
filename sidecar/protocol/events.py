"""What can happen to a group: the input of ``Group.handle``. Each comes with ``now``, monotonic seconds."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sidecar.protocol.types import BOW_OUT, HANDS_OVER, LET_GO, GroupConfig, IPAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Begin. ``link_up`` is the interface's carrier; ``resume`` means that this node's lease is still alive."""

    link_up: bool
    resume: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AdvertReceived:
    """An authentic advert of this group arrived from ``source``. All numbers are as on the wire.

    ``sealed`` tells that it comes from our own kind (``protocol.seal``), with whom we share a tie-break.
    """

    source: IPAddress
    advbase: int
    advskew: int
    demotion: int
    sealed: bool = False

    @property
    def bow_out(self) -> bool:
        """The sender is master no longer: its kernel has let go of the VIPs."""
        return self.advbase == self.advskew == BOW_OUT

    @property
    def hands_over(self) -> bool:
        """The sender answers on, but only until somebody has stood up."""
        return (self.advbase, self.advskew) == (BOW_OUT, HANDS_OVER)

    @property
    def goodbye(self) -> bool:
        """The sender wants to be master no longer, or is not already."""
        return self.bow_out or self.hands_over

    @property
    def let_go(self) -> bool:
        """The sender has yielded to us, and its kernel has let go of the VIPs."""
        return self.sealed and (self.advbase, self.advskew) == (BOW_OUT, LET_GO)

    @property
    def claims(self) -> bool:
        """The sender is master, and means to stay it."""
        return not self.goodbye and not self.let_go


@dataclass(frozen=True, slots=True)
class Tick:
    """The time of ``Group.deadline()`` has come, or something woke the loop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkChanged:
    """The interface lost or regained its carrier."""

    up: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseAnswered:
    """The answer to Bind or Renew: the VIPs are leased to this node, or ``error`` says why not."""

    error: str | None


@dataclass(frozen=True, slots=True)
class LeaseReleased:
    """The answer to Release: this node's kernel no longer answers for the VIPs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Occupied:
    """A stranger answers for a VIP, which counts for ``seconds``; ``by`` tells which and who."""

    by: str
    seconds: float


@dataclass(frozen=True, slots=True)
class LeaseDisturbed:
    """Somebody else on this node took a VIP off, or changed it: nobody may answer for it now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demote:
    """Be a worse master by ``weight`` (>= 1) until ``name`` is given back, or for ``seconds``; ``detail`` says why.

    ``as_backup``: in no other role.
    """

    name: str
    weight: int
    detail: str
    seconds: float = math.inf
    as_backup: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Promote:
    """Give back what ``name`` took."""

    name: str


@dataclass(frozen=True, slots=True)
class Reconfigured:
    """Go on in the same role with other settings; the group's name, vhid and addresses stay."""

    config: GroupConfig


@dataclass(frozen=True, slots=True)
class HandOver:
    """As master, say goodbye and yield to whoever stands up; where nobody does, go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """Hand over and end. ``keep``: as master whose lease stands, renew it and end without a word, to resume soon."""

    keep: bool = False


Event = (
    Start
    | AdvertReceived
    | Tick
    | LinkChanged
    | LeaseAnswered
    | LeaseReleased
    | LeaseDisturbed
    | Occupied
    | Demote
    | Promote
    | Reconfigured
    | HandOver
    | Stop
)
