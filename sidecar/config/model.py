"""Every setting of this version: name, type, default, meaning and remedy. Pure: no I/O.

A setting's environment name is ``CARP_`` and the upper-case field, but for the names of the downward API and kubectl;
in the file the field itself is the key. The settings' reference is generated from the descriptions here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from sidecar.config import values
from sidecar.config.fields import (
    Command,
    Duration,
    FilePath,
    Keys,
    Lower,
    OneLine,
    Remedy,
    WholeNumber,
    Word,
    remedy_of,
)
from sidecar.config.probes import ProbeKeys
from sidecar.config.values import IPAddress, IPInterface

ENV_PREFIX = "CARP_"
DEFAULT_CONFIG_FILE = "/etc/carp-sidecar/config.yaml"
DEFAULT_GROUP = "default"


class SettingsError(Exception):
    """The settings cannot be used. ``lines`` has one line per mistake: setting, fault, remedy, and never a secret.

    ``files`` are those that were read, as in ``Plan``.
    """

    def __init__(self, lines: Iterable[str], *, files: Mapping[str, str] | None = None) -> None:
        self.lines = tuple(lines)
        self.files = dict(files or {})
        super().__init__("\n".join(self.lines))


@dataclass(frozen=True, slots=True)
class Interface:
    """One network interface of this node with its permanent addresses, the primary one first; no leased VIPs."""

    name: str
    addresses: tuple[IPInterface, ...]


def _split(value: object) -> object:
    if isinstance(value, str):
        return [item.strip() for item in value.split(",") if item.strip()]
    return value


def _vip(value: object) -> object:
    if not isinstance(value, str):
        raise values.FaultError("holds something else than text")
    return values.vip(value.strip())


def _some_and_distinct(vips: tuple[IPInterface, ...]) -> tuple[IPInterface, ...]:
    if not vips:
        raise values.FaultError("has no address in it")
    if len(vips) > values.VIPS_AT_MOST:
        raise values.FaultError(f"has {len(vips)} addresses", f"use at most {values.VIPS_AT_MOST} in one group")
    seen = set()
    for vip in vips:
        if vip.ip in seen:
            raise values.FaultError(f"{vip.ip} is there twice", "name each address once")
        seen.add(vip.ip)
    return vips


def _secret(password: SecretStr) -> SecretStr:
    values.password(password.get_secret_value().encode())
    return password


Vips = Annotated[
    tuple[Annotated[IPInterface, BeforeValidator(_vip)], ...],
    BeforeValidator(_split),
    AfterValidator(_some_and_distinct),
]
Peers = Annotated[tuple[Annotated[IPAddress, BeforeValidator(values.peer)], ...], BeforeValidator(_split)]
ReplayMode = Annotated[Literal["compat", "strict"], Lower]


class GroupKeys(Keys):
    """The settings of one group: one vhid on one interface."""

    interface: Annotated[Word | None, Remedy("use the name of a network interface of this node")] = None
    """Network interface that carries the adverts and the VIPs. Default: the one whose subnet holds the first VIP."""

    vhid: Annotated[
        Annotated[WholeNumber, Field(ge=1, le=255)] | None,
        Remedy("use a whole number from 1 to 255, the same on every node of the group"),
    ] = None
    """Virtual host id, 1 to 255: what tells this group from others on the same LAN. Required."""

    vips: Annotated[
        Vips | None,
        Remedy("use address[/prefix], IPv4 or IPv6, several with commas between them, such as 10.0.0.200"),
    ] = None
    """Virtual addresses of the group, the same on every node: `address[/prefix]`, IPv4 and IPv6. Without a prefix the
    address is bound as a single host (/32, /128) and is never used as a source address. Required."""

    password_file: Annotated[
        FilePath | None, Remedy("use the path of a file that holds the group's password, 1 to 20 bytes")
    ] = None
    """File that holds the password which all nodes of the group share. With several lines, the first one's password
    signs and the others are accepted too, so that it can be changed node by node. This or the password itself is
    required."""

    password: Annotated[
        Annotated[SecretStr, AfterValidator(_secret)] | None,
        Remedy("use 1 to 20 bytes of UTF-8 (19 to interoperate with ucarp and the BSDs), the same on every node"),
    ] = None
    """Shared password, 1 to 20 bytes of UTF-8; ucarp and the BSDs' ifconfig take at most 19. Prefer the file."""

    advbase: Annotated[WholeNumber, Field(ge=0, le=254), Remedy("use whole seconds from 0 to 254")] = 1
    """Seconds between two adverts, 0 to 254; advskew/256 s are added. With 0 and advskew 0 it is 1/256 s."""

    advskew: Annotated[
        WholeNumber,
        Field(ge=0, le=254),
        Remedy("use a whole number of 1/256 s from 0 to 254; the node with the lowest is the preferred master"),
    ] = 0
    """Added to the interval in 1/256 s, 0 to 254. The node with the lowest is the preferred master."""

    dead_ratio: Annotated[
        WholeNumber, Field(ge=1, le=255), Remedy("use a whole number of intervals from 1 to 255, usually 3")
    ] = 3
    """Missed intervals after which a backup takes the master for dead, 1 to 255."""

    preempt: Annotated[bool, Lower, Remedy("use true or false")] = False
    """Whether this node takes over from a live master that advertises less often than this node would."""

    preempt_delay: Annotated[Duration, Remedy("use a time of at most a day, such as 30s or 5m")] = 0.0
    """Time after the start, or after the link's return, before this node preempts a live master."""

    startup_delay: Annotated[Duration, Remedy("use a time of at most a day, such as 30s or 5m")] = 0.0
    """Time after the start, or after the link's return, before this node becomes master for any reason."""

    address_family: Annotated[
        Literal["ipv4", "ipv6", "both"], Lower, Remedy("use ipv4, ipv6 or both, the same on every node")
    ] = "ipv4"
    """Which IP versions the adverts travel over; the VIPs may be of either whatever this is. With `both`, the silence
    of either makes a master. ucarp and NetBSD send no adverts over IPv6."""

    source_address: Annotated[
        Annotated[IPv4Address, BeforeValidator(values.source_address)] | None,
        Remedy("use an IPv4 address of the group's interface, or leave it unset"),
    ] = None
    """IPv4 address that adverts come from. Default: the interface's address that is among the peers, or its primary
    one."""

    source_address6: Annotated[
        Annotated[IPv6Address, BeforeValidator(values.source_address6)] | None,
        Remedy("use an IPv6 address of the group's interface, or leave it unset"),
    ] = None
    """IPv6 address that adverts come from. Default: the interface's address that is among the peers, or its link-local
    one."""

    multicast_group: Annotated[
        Annotated[IPv4Address, BeforeValidator(values.multicast_group)],
        Remedy("use an IPv4 multicast address, the same on every node; 224.0.0.18 is CARP's own"),
    ] = IPv4Address("224.0.0.18")
    """IPv4 multicast address that adverts go to."""

    multicast_group6: Annotated[
        Annotated[IPv6Address, BeforeValidator(values.multicast_group6)],
        Remedy("use an IPv6 multicast address, the same on every node; ff02::12 is CARP's own"),
    ] = IPv6Address("ff02::12")
    """IPv6 multicast address that adverts go to."""

    transport: Annotated[
        Literal["multicast", "broadcast", "unicast"], Lower, Remedy("use multicast, broadcast or unicast")
    ] = "multicast"
    """How adverts travel. `broadcast` sends them to all MACs, as `ucarp --nomcast` does (IPv4 only); `unicast` to each
    of the peers."""

    peers: Annotated[Peers, Remedy("use the source addresses of the other nodes, with commas between them")] = ()
    """With `unicast`: the source addresses of all nodes of the group, IPv4 and IPv6. This node's own are skipped, so
    that the list can be the same everywhere."""

    replay: Annotated[ReplayMode, Remedy("use compat or strict, the same on every node of the group")] = "strict"
    """Replay protection. `strict` seals the sender, the timing and the time into CARP's counter and refuses altered,
    repeated and late adverts; all peers must be carp-sidecar. `compat` refuses our own echoes only and interoperates
    with ucarp and the BSDs: a group with one of them needs it on every node."""

    clock_skew: Annotated[
        WholeNumber, Field(ge=1, le=86400), Remedy("use whole seconds from 1 to 86400, and NTP on every node")
    ] = 60
    """Seconds by which a peer's wall clock may differ, 1 to 86400; with `strict` only."""

    ignore_link: Annotated[bool, Lower, Remedy("use true or false")] = False
    """Whether the interface's carrier means nothing to this group (`ucarp --ignoreifstate`), as where a crossover cable
    joins two nodes. Such a group neither demotes others for its interface nor is demoted for theirs."""

    mac: Annotated[
        Literal["interface", "virtual"], Lower, Remedy("use interface or virtual, the same on every node")
    ] = "interface"
    """Which MAC the VIPs are at. `interface`: the NIC's, which clients learn anew at each failover. `virtual`:
    00:00:5e:00:01:<vhid>, as with the BSDs, which moves with the mastership, so that nobody but switches has anything
    to learn; it takes a kernel with macvlan and nf_tables, and a NIC that may show a second MAC."""

    lease: Annotated[Literal["auto", "address", "off"], Lower, Remedy("use auto, address or off")] = "auto"
    """What takes the VIPs off a node whose sidecar is killed or frozen. `auto`: nftables silences them on the
    millisecond, shortly before the earliest peer takes over, where the kernel can, else as `address`: the kernel takes
    the addresses off after whole seconds. `off`: nothing does, as with others."""

    on_exit: Annotated[Literal["handover", "keep"], Lower, Remedy("use handover or keep")] = "handover"
    """What a master does when it is told to stop. `handover`: it takes the VIPs off and says goodbye, and the next node
    takes over at once. `keep`: it renews the lease and ends; a sidecar that starts before the lease is over goes on as
    master, and nobody notices; else the lease ends and a peer takes over."""

    up_command: Annotated[Command, Remedy("use the absolute path of an executable file, or unset it")] = ()
    """Command that is run once this node holds the VIPs, for each of them with the interface, the VIP and xparam as
    arguments. The VIP is bound and announced whatever it does."""

    down_command: Annotated[Command, Remedy("use the absolute path of an executable file, or unset it")] = ()
    """Command that is run once this node holds the VIPs no more, and at the start; with the same arguments."""

    neutral: Annotated[bool, Lower, Remedy("use true or false")] = False
    """Whether the down command is not run at the start (`ucarp --neutral`)."""

    shutdown: Annotated[bool, Lower, Remedy("use true or false")] = True
    """Whether a master that is told to stop runs the down command before it ends (`ucarp --shutdown`)."""

    xparam: Annotated[OneLine | None, Remedy("use a single argument on one line, or unset it")] = None
    """Last argument of both commands (`ucarp --xparam`)."""

    target_selector: Annotated[
        Annotated[str, AfterValidator(values.label_selector)] | None,
        Remedy("use a label selector as kubectl -l takes it, such as app=web, or leave it unset"),
    ] = None
    """Label selector: the pods of this pod's namespace and this node that it chooses carry the role, instead of this
    pod."""

    endpoint_slice: Annotated[
        Annotated[str, AfterValidator(values.dns_label)] | None,
        Remedy("use the name of a Service without a selector in this pod's namespace, or leave it unset"),
    ] = None
    """Service without a selector, in this pod's namespace, whose EndpointSlice the master owns: it always names the
    pods of one master, never none or two."""

    load_balancer_class: Annotated[
        Annotated[str, AfterValidator(values.load_balancer_class)] | None,
        Remedy("use the loadBalancerClass of your Services, such as carp-sidecar/vip, or leave it unset"),
    ] = None
    """The master writes the VIPs into `status.loadBalancer` of the namespace's LoadBalancer Services of this
    `loadBalancerClass`, so that `kubectl get services` shows them and kube-proxy serves them."""

    health: Annotated[
        tuple[ProbeKeys, ...],
        Remedy("use a list of probes, such as [{name: app, http: 'http://127.0.0.1:8080/healthz'}]"),
    ] = ()
    """Health probes that make this node a worse master while they fail ([health](health.md)): a list, whose entries are
    below. In the environment it is the same list as one text, YAML or JSON. A group's own list stands instead of the
    top level's."""


class GlobalKeys(Keys):
    """The settings of the whole sidecar."""

    kubernetes: Annotated[Literal["auto", "on", "off"], Lower, Remedy("use auto, on or off")] = "auto"
    """Whether the roles are mirrored into Kubernetes. `auto`: inside a pod, or where KUBECONFIG is set."""

    role_label: Annotated[
        Annotated[str, AfterValidator(values.role_label)],
        Remedy("use a label key: at most 63 letters, digits, -, _ and ., after an optional dns.prefix/"),
    ] = "carp-role"
    """Pod label that carries the role; with several groups, each has this label with -<group> after it."""

    readiness_condition: Annotated[bool, Lower, Remedy("use true or false")] = False
    """Whether the pods that carry the role also get the condition `carp-sidecar/master`, for readiness gates. Mind that
    a gate which only the master passes blocks rolling updates."""

    lease_witness: Annotated[bool, Lower, Remedy("use true or false")] = False
    """Whether each master writes a Lease `carp-sidecar-<group>` when it takes over, and at no other time."""

    events: Annotated[bool, Lower, Remedy("use true or false")] = True
    """Whether takeovers are told as Events on the pod and on the node."""

    node_events: Annotated[bool, Lower, Remedy("use true or false")] = False
    """Whether the Events on the node are written in the namespace `default`, where `kubectl describe node` finds them,
    and not in the pod's own. Needs the right to create and patch events there, which takes a Role in `default`."""

    node_annotations: Annotated[bool, Lower, Remedy("use true or false")] = False
    """Whether the annotations `carp-sidecar/maintenance` and `carp-sidecar/advskew` of this node's Node object are
    obeyed ([maintenance](maintenance.md)). Needs the right to list and watch nodes, which takes a ClusterRole."""

    cordon: Annotated[bool, Lower, Remedy("use true or false")] = False
    """Whether a node that is cordoned yields its VIPs to one that is not, so that `kubectl drain` moves them first.
    Needs the right to list and watch nodes, which takes a ClusterRole."""

    realtime: Annotated[Literal["auto", "off"], Lower, Remedy("use auto or off")] = "auto"
    """Whether adverts and leases are scheduled in real time (SCHED_RR), before whatever else is busy on the node: with
    `auto` where the capability SYS_NICE allows it, which timings under a second want."""

    runtime_dir: Annotated[
        Annotated[str, AfterValidator(values.socket_directory)],
        Remedy("use an absolute path of at most 90 bytes, since a Unix socket in it has to fit"),
    ] = "/run/carp-sidecar"
    """Directory of the control socket."""

    http_listen: Annotated[
        Annotated[str, AfterValidator(values.http_listen)],
        Remedy("use address:port, such as 127.0.0.1:9112 or [::]:9112, or off"),
    ] = "127.0.0.1:9112"
    """Address and port of the HTTP listener with the probes, the metrics and the status page; `off` or nothing: none.
    It is read-only, and on loopback unless told otherwise. A port that is taken is a warning, and is tried again."""

    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Lower, Remedy("use debug, info, warning or error")
    ] = "info"
    """Lowest level that is logged."""

    log_format: Annotated[Literal["json", "text"], Lower, Remedy("use json or text")] = "json"
    """`json` for one object per line, `text` for people."""


class IdentityKeys(Keys):
    """What differs from node to node and pod to pod: from the environment only."""

    config_file: Annotated[FilePath, Remedy("use the path of a YAML file, or unset it")] = DEFAULT_CONFIG_FILE
    """Settings file (YAML). A missing file is an error only where it was named."""

    pod_name: Annotated[
        Annotated[str, AfterValidator(values.dns_subdomain)] | None,
        Field(validation_alias="POD_NAME"),
        Remedy("set it with valueFrom.fieldRef.fieldPath: metadata.name"),
    ] = None
    """Name of this pod, by the downward API (metadata.name). Required where the mirror is on."""

    pod_namespace: Annotated[
        Annotated[str, AfterValidator(values.dns_label)] | None,
        Field(validation_alias="POD_NAMESPACE"),
        Remedy("set it with valueFrom.fieldRef.fieldPath: metadata.namespace"),
    ] = None
    """Namespace of this pod, by the downward API (metadata.namespace). Required where the mirror is on."""

    node_name: Annotated[
        Word | None,
        Field(validation_alias="NODE_NAME"),
        Remedy("set it with valueFrom.fieldRef.fieldPath: spec.nodeName"),
    ] = None
    """Name of this node, by the downward API (spec.nodeName): the key under `nodes:`. Default: the host name."""

    kubeconfig: Annotated[
        FilePath | None, Field(validation_alias="KUBECONFIG"), Remedy("use the path of a kubeconfig file, or unset it")
    ] = None
    """Kubeconfig file to reach the API server with, instead of the pod's service account."""


class Settings(IdentityKeys, GlobalKeys, GroupKeys):
    """Everything that the environment can set."""


def env_name(field: str) -> str:
    """Return the environment variable of a field of Settings."""
    alias = Settings.model_fields[field].validation_alias
    return alias if isinstance(alias, str) else ENV_PREFIX + field.upper()


def remedy(field: str) -> str:
    """Return what to do about a wrong value of a field of Settings."""
    return remedy_of(Settings, field)
