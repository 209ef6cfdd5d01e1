"""What can go wrong on the simulated LAN. ``node`` is a node's number, times are seconds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Crash:
    """The whole sidecar is killed; its kernel lease runs on."""

    node: int


@dataclass(frozen=True, slots=True)
class Restart:
    """A sidecar that is not there starts, and sweeps what its earlier life left."""

    node: int


@dataclass(frozen=True, slots=True)
class EngineCrash:
    """Only the engine dies; the parent starts it again, as master where the lease still stands."""

    node: int
    back_after: float


@dataclass(frozen=True, slots=True)
class Pause:
    """The engine's loop does not run for a while; packets queue up."""

    node: int
    seconds: float


@dataclass(frozen=True, slots=True)
class ParentPause:
    """The parent serves nothing for a while; the engine's requests queue up."""

    node: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Link:
    """The interface loses or regains its carrier."""

    node: int
    up: bool


@dataclass(frozen=True, slots=True)
class NewMac:
    """The interface gets another MAC; its carrier stays, or was ignored."""

    node: int


@dataclass(frozen=True, slots=True)
class Stop:
    """A planned stop."""

    node: int


@dataclass(frozen=True, slots=True)
class Keep:
    """A planned stop that keeps the VIPs; the next run begins so long after it, as master where the lease stands."""

    node: int
    back_after: float


@dataclass(frozen=True, slots=True)
class Reconfigure:
    """A node goes on with other settings of its own."""

    node: int
    advbase: int
    advskew: int
    preempt_delay: float = 0.0
    startup_delay: float = 0.0


@dataclass(frozen=True, slots=True)
class Retune:
    """All nodes go on with other settings that a fleet has in common."""

    dead_ratio: int
    preempt: bool


@dataclass(frozen=True, slots=True)
class Demote:
    """A node is demoted by ``weight`` for ``name`` until it is given back, also where it starts anew."""

    node: int
    name: str
    weight: int


@dataclass(frozen=True, slots=True)
class Promote:
    """What ``name`` took is given back."""

    node: int
    name: str


@dataclass(frozen=True, slots=True)
class HandOver:
    """The master yields to whoever stands up."""

    node: int


@dataclass(frozen=True, slots=True)
class Refuse:
    """The kernel refuses the next ``times`` leases of a node."""

    node: int
    times: int


@dataclass(frozen=True, slots=True)
class Disturb:
    """Somebody else on a node deletes the VIPs; its parent notices."""

    node: int


@dataclass(frozen=True, slots=True)
class Occupy:
    """A node hears a stranger answer for a VIP, which counts for so many seconds."""

    node: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Cut:
    """Nothing of ``sender`` reaches ``receiver`` any more."""

    sender: int
    receiver: int


@dataclass(frozen=True, slots=True)
class Deaf:
    """No multicast of ``sender`` reaches ``receiver`` any more; unicast does."""

    sender: int
    receiver: int


@dataclass(frozen=True, slots=True)
class Partition:
    """``members`` and the others don't hear each other any more."""

    members: frozenset[int]


@dataclass(frozen=True, slots=True)
class Heal:
    """Everybody hears everybody."""


@dataclass(frozen=True, slots=True)
class Loss:
    """From now on this share of all adverts is lost, for each receiver by itself."""

    probability: float


@dataclass(frozen=True, slots=True)
class Mute:
    """Adverts of one IP version (4 or 6) reach nobody until Heal."""

    version: int


NodeFault = (
    Crash
    | Restart
    | EngineCrash
    | Pause
    | ParentPause
    | Link
    | NewMac
    | Stop
    | Keep
    | Reconfigure
    | Refuse
    | Demote
    | Promote
    | HandOver
    | Disturb
    | Occupy
)
Fault = NodeFault | Retune | Cut | Deaf | Partition | Heal | Loss | Mute
