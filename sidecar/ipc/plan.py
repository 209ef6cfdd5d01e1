"""The canonical settings: what the long-lived processes receive once start-up has validated everything.

Plain typed structs, so that neither the parent nor the engine carries pydantic. Addresses are text, times are seconds.
"""

from __future__ import annotations

import enum

import msgspec


class PathPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a group's adverts travel over one IP version: from ``source`` to ``multicast_group`` or each of ``peers``."""

    source: str
    multicast_group: str
    peers: tuple[str, ...] = ()


class MirrorPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What of one group is shown in Kubernetes beyond its role; "" for none.

    ``target_selector`` chooses the pods of this node that carry the role, "" stands for the sidecar's own.
    ``endpoint_slice`` is a Service's name, ``load_balancer_class`` a class of Services.
    """

    target_selector: str = ""
    endpoint_slice: str = ""
    load_balancer_class: str = ""


class GroupPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One vhid on one interface. ``vips`` are ``address/prefix``.

    ``key`` is the 20-byte HMAC key that signs, ``accepted_keys`` are further ones that peers may use; they are never
    shown. ``paths`` are one or two, the main IP version first; ``transport`` is multicast, broadcast or unicast;
    ``replay`` is strict or compat; ``clock_skew`` is how many seconds a strict peer's wall clock may be away.
    ``lease`` is auto, address or off; ``on_exit`` is handover or keep; ``mac`` is interface or virtual. ``up_command``
    and ``down_command`` are argument vectors, empty for none.
    """

    name: str
    interface: str
    vhid: int
    vips: tuple[str, ...]
    paths: tuple[PathPlan, ...]
    key: bytes
    accepted_keys: tuple[bytes, ...] = ()
    advbase: int
    advskew: int
    dead_ratio: int
    preempt: bool
    preempt_delay: float = 0.0
    startup_delay: float = 0.0
    transport: str = "multicast"
    replay: str = "compat"
    clock_skew: float = 60.0
    ignore_link: bool = False
    lease: str = "auto"
    mac: str = "interface"
    on_exit: str = "handover"
    up_command: tuple[str, ...] = ()
    down_command: tuple[str, ...] = ()
    neutral: bool = False
    shutdown: bool = True
    xparam: str | None = None
    mirror: MirrorPlan = MirrorPlan()

    def __repr__(self) -> str:
        """Name the group without its key: a repr ends up in logs and tracebacks."""
        return f"GroupPlan(name={self.name!r}, interface={self.interface!r}, vhid={self.vhid})"

    __str__ = __repr__


class ProbeKind(enum.StrEnum):
    """What a health probe asks; the names are the settings'."""

    HTTP = "http"
    TCP = "tcp"
    EXEC = "exec"
    FILE = "file"
    CONTAINER = "container"
    NODE_CONDITION = "node_condition"
    GATEWAY = "gateway"


class ProbePlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One health probe: what it asks every ``interval`` seconds, and which ``groups`` (() is all) it demotes.

    ``target`` is a URL, an ``address:port``, an argument vector, a path (which has to change within ``max_age``
    seconds), a container's name, a condition's type and status, or the interface whose gateway is asked.
    """

    name: str
    kind: ProbeKind
    target: tuple[str, ...]
    groups: tuple[str, ...] = ()
    interval: float = 2.0
    timeout: float = 1.0
    rise: int = 2
    fall: int = 3
    weight: int = 240
    max_age: float | None = None

    def concerns(self, group: str) -> bool:
        """Tell whether it demotes this group."""
        return not self.groups or group in self.groups


class KubernetesPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which pod mirrors the roles and under which label. ``kubeconfig`` is a path, or "" for the pod's own account."""

    pod_name: str
    pod_namespace: str
    role_label: str
    kubeconfig: str
    readiness_condition: bool = False
    lease_witness: bool = False
    events: bool = False
    node_events: bool = False
    node_annotations: bool = False
    cordon: bool = False


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that the long-lived processes were told. ``realtime`` is auto or off.

    ``kubernetes`` is None where the mirror is off; ``http_listen`` is ``address:port``, or "" for no listener.
    ``pod`` is ``namespace/name`` of this pod, or "" where that is not known.
    ``files`` are those that the settings came from, with the stamps (``live.stamp``) that they bore then.
    """

    node_name: str
    runtime_dir: str
    log_level: str
    log_format: str
    groups: tuple[GroupPlan, ...]
    kubernetes: KubernetesPlan | None
    http_listen: str = ""
    pod: str = ""
    files: dict[str, str] = {}
    health: tuple[ProbePlan, ...] = ()
    realtime: str = "auto"


def encode_plan(plan: Plan) -> bytes:
    """Return the plan as one JSON document."""
    return msgspec.json.encode(plan)


def decode_plan(document: bytes) -> Plan:
    """Read a plan back. Raises msgspec.ValidationError or msgspec.DecodeError."""
    return msgspec.json.decode(document, type=Plan)
