"""What the doctor looks at, as plain values. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Interface, IPv6Interface

from sidecar.capture.vrrp import WireProtocol
from sidecar.ipc.plan import GroupPlan
from sidecar.protocol.types import IPAddress

IPInterface = IPv4Interface | IPv6Interface


@dataclass(frozen=True, slots=True, kw_only=True)
class Nic:
    """An interface of a group: its own addresses, and the sysctls that are in force for it (ip-sysctl.rst)."""

    name: str
    up: bool
    addresses: tuple[IPInterface, ...]
    arp_ignore: int
    rp_filter: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """The machine and this process. What does not work is a text that says why, None where it works."""

    missing_capabilities: tuple[str, ...]
    cutoff: str | None
    lifetimes: str | None
    clock_synchronised: bool | None
    """None where it could not be asked."""
    realtime: str | None
    cpu_cores: float | None
    """How many cores the CPU limit allows, None without one."""
    ipvs: frozenset[IPAddress] | None
    """The addresses of kube-proxy's interface kube-ipvs0, None where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """One sender of protocol 112 on an interface; ``authentic`` is None where no password is known for it."""

    interface: str
    protocol: WireProtocol
    vhid: int | None
    source: str
    authentic: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Right:
    """A right that the mirror needs, and whether the API server grants it. ``namespace`` is "" for the pod's own."""

    verb: str
    resource: str
    granted: bool
    namespace: str = ""

    def __str__(self) -> str:
        where = f" in namespace {self.namespace}" if self.namespace else ""
        return f"{self.verb} {self.resource}{where}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All of it. ``roles`` are those of the sidecar that runs here, None where none does."""

    host: Host
    groups: tuple[GroupPlan, ...] = ()
    nics: Mapping[str, Nic] = field(default_factory=dict)
    heard: tuple[Heard, ...] = ()
    seconds: float = 0.0
    """How long was listened."""
    wire: str | None = None
    """Why the LAN could not be listened to."""
    owners: Mapping[IPAddress, str] = field(default_factory=dict)
    """Who answers for a VIP: the MAC of another machine."""
    leftovers: tuple[str, ...] = ()
    """The macvlans that are there for the groups' virtual MACs."""
    roles: Mapping[str, str] | None = None
    rights: tuple[Right, ...] | str | None = None
    """None where the mirror is off, a text where the API server could not be asked."""
