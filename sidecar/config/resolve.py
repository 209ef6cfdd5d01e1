"""One node's groups: the layers laid over one another, then interface, source and addresses found on this node. Pure.

From weakest to strongest: the model's defaults, the file's top level, the group's entry, the node's overrides, the
node's overrides for that group, the environment.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from sidecar.config.file import File
from sidecar.config.layers import Labels, Layer, Problems, Setting, State, overlay, values_of
from sidecar.config.model import DEFAULT_GROUP, GroupKeys, Interface, env_name, remedy
from sidecar.config.values import PASSWORD_BYTES_ELSEWHERE, IPAddress, IPInterface, edge_of_subnet
from sidecar.ipc.plan import GroupPlan, MirrorPlan, PathPlan, ProbeKind, ProbePlan
from sidecar.protocol.auth import key_from_password

_INTERFACES_LISTED = 12
_VERSIONS: Mapping[str, tuple[Literal[4, 6], ...]] = {"ipv4": (4,), "ipv6": (6,), "both": (4, 6)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One group's settings after all layers: the values with their defaults, and where each came from."""

    name: str
    keys: GroupKeys
    given: Mapping[str, Setting]
    labels: Labels

    def label(self, key: str) -> str:
        """Return the name of a setting for a message: where it was given, or where it should be."""
        return self.given[key].label if key in self.given else self.labels(key)

    def state(self, key: str) -> State | None:
        """Return what the layers say of the setting; None if they don't name it."""
        return self.given[key].state if key in self.given else None


@dataclass(frozen=True, slots=True)
class Placed:
    """A group on this node. What could not be found is None, or missing among the ``sources``, and was reported.

    ``sources`` are by IP version.
    """

    group: Group
    interface: Interface | None
    sources: Mapping[int, IPAddress]

    @property
    def versions(self) -> tuple[Literal[4, 6], ...]:
        """The IP versions that the group speaks, the main one first."""
        return _VERSIONS[self.group.keys.address_family]

    def peers(self, version: int) -> tuple[IPAddress, ...]:
        """Return the other nodes' addresses of one IP version."""
        own = self.sources.get(version)
        return tuple(peer for peer in self.group.keys.peers if peer.version == version and peer != own)


def groups(file: File, environment: Layer, problems: Problems) -> tuple[Group, ...]:
    """Lay the environment over the file, for each group of this node."""
    top, over = _group_keys(file.top), _group_keys(environment)
    if file.entries is None:
        layer = overlay([top, file.node, file.node_groups.get(DEFAULT_GROUP, {}), over])
        return (_group(DEFAULT_GROUP, layer, env_name),)
    if len(file.entries) > 1:
        over = _without_one_for_all(over, file, problems)
    return tuple(
        _group(
            entry.name,
            overlay([top, entry.layer, file.node, file.node_groups.get(entry.name, {}), over]),
            entry.labels,
        )
        for entry in file.entries
    )


def _group_keys(layer: Layer) -> Layer:
    return {name: setting for name, setting in layer.items() if name in GroupKeys.model_fields}


def _group(name: str, layer: Layer, labels: Labels) -> Group:
    return Group(name=name, keys=GroupKeys.model_construct(None, **values_of(layer)), given=layer, labels=labels)


def _without_one_for_all(over: Layer, file: File, problems: Problems) -> Layer:
    for key in ("vhid", "vips"):
        if key in over and over[key].state is not State.EMPTY:
            problems.add(
                over[key].label,
                f"would give all {len(file.entries or ())} groups of {file.path} the same {key}",
                f"unset it and set {key} in each entry of groups:",
            )
    return {name: setting for name, setting in over.items() if name not in ("vhid", "vips")}


def require(group: Group, keys: Iterable[str], problems: Problems) -> None:
    """Report each of ``keys`` that nobody gave."""
    for key in keys:
        match group.state(key):
            case None:
                problems.add(group.label(key), "not set", remedy(key))
            case State.EMPTY:
                problems.add(group.label(key), "is empty", remedy(key))
            case State.GIVEN | State.WRONG:
                pass


def place(group: Group, interfaces: Sequence[Interface], problems: Problems) -> Placed:
    """Find the group's interface and source address on a node with ``interfaces``. Mistakes go to ``problems``."""
    require(group, ("vhid", "vips"), problems)
    interface = _interface(group, interfaces, problems)
    sources: dict[int, IPAddress] = {}
    for version in _VERSIONS[group.keys.address_family]:
        source = _source(group, interface, version, problems)
        if source is not None:
            sources[version] = source
    placed = Placed(group, interface, sources)
    _check_transport(placed, problems)
    if group.keys.on_exit == "keep" and group.keys.lease == "off":
        fault = f"keep, but with {group.label('lease')}=off nothing would ever take the VIPs off"
        problems.add(group.label("on_exit"), fault, f"use handover, or {group.label('lease')}=auto")
    for vip in group.keys.vips or ():
        _refuse_own(placed, vip, interfaces, problems)
    return placed


def _check_transport(placed: Placed, problems: Problems) -> None:
    group, keys = placed.group, placed.group.keys
    if State.WRONG in (group.state("transport"), group.state("peers"), group.state("address_family")):
        return
    family = f"{group.label('address_family')}={keys.address_family}"
    if keys.transport != "unicast" and keys.peers:
        fault = f"is set, but with {group.label('transport')}={keys.transport} nobody is addressed one by one"
        problems.add(group.label("peers"), fault, f"unset it, or set {group.label('transport')}=unicast")
    if keys.transport == "broadcast" and 6 in placed.versions:
        fault = f"broadcast, which IPv6 does not have, with {family}"
        problems.add(group.label("transport"), fault, f"use multicast, or {group.label('address_family')}=ipv4")
    if keys.transport == "unicast":
        stray = [peer for peer in keys.peers if peer.version not in placed.versions]
        if stray:
            fault = f"{stray[0]} is an IPv{stray[0].version} address, with {family} no advert goes there"
            problems.add(group.label("peers"), fault, f"take it out, or change {group.label('address_family')}")
        for version in placed.versions:
            if not placed.peers(version):
                fault = f"names no other node by IPv{version} address, which unicast with {family} needs"
                problems.add(group.label("peers"), fault, remedy("peers"))


def refuse_clashes(placed: Iterable[Placed], problems: Problems) -> None:
    """Report groups that would be one on the wire, and addresses that two groups claim."""
    vhids: dict[object, str] = {}
    vips: dict[object, str] = {}
    for each in placed:
        group, keys = each.group, each.group.keys
        nic = each.interface.name if each.interface else None
        if nic is not None and keys.vhid is not None:
            other = vhids.setdefault((nic, keys.vhid), group.name)
            if other != group.name:
                fault = f"{keys.vhid} on {nic} belongs to group {other!r} already"
                problems.add(group.label("vhid"), fault, "give each group of an interface its own vhid")
        for vip in keys.vips or ():
            other = vips.setdefault((vip.ip, nic if vip.ip.is_link_local else None), group.name)
            if other != group.name:
                fault = f"{vip.ip} belongs to group {other!r} already"
                problems.add(group.label("vips"), fault, "name each address in one group only")


def plan_of(placed: Placed, passwords: Sequence[bytes]) -> GroupPlan | None:
    """Return what the processes need, or None where something is missing, which was reported."""
    keys, interface = placed.group.keys, placed.interface
    if keys.vhid is None or not keys.vips or not passwords or interface is None:
        return None
    if any(version not in placed.sources for version in placed.versions):
        return None
    groups_by_version = {4: keys.multicast_group, 6: keys.multicast_group6}
    return GroupPlan(
        name=placed.group.name,
        interface=interface.name,
        vhid=keys.vhid,
        vips=tuple(str(vip) for vip in keys.vips),
        paths=tuple(
            PathPlan(
                source=str(placed.sources[version]),
                multicast_group=str(groups_by_version[version]),
                peers=tuple(str(peer) for peer in placed.peers(version)),
            )
            for version in placed.versions
        ),
        key=key_from_password(passwords[0]),
        accepted_keys=tuple(key_from_password(password) for password in passwords[1:]),
        advbase=keys.advbase,
        advskew=keys.advskew,
        dead_ratio=keys.dead_ratio,
        preempt=keys.preempt,
        preempt_delay=keys.preempt_delay,
        startup_delay=keys.startup_delay,
        transport=keys.transport,
        replay=keys.replay,
        clock_skew=float(keys.clock_skew),
        ignore_link=keys.ignore_link,
        lease=keys.lease,
        mac=keys.mac,
        on_exit=keys.on_exit,
        up_command=keys.up_command,
        down_command=keys.down_command,
        neutral=keys.neutral,
        shutdown=keys.shutdown,
        xparam=keys.xparam,
        mirror=MirrorPlan(
            target_selector=keys.target_selector or "",
            endpoint_slice=keys.endpoint_slice or "",
            load_balancer_class=keys.load_balancer_class or "",
        ),
    )


def health_of(placed: Sequence[Placed]) -> tuple[ProbePlan, ...]:
    """Return all groups' probes, those that several have alike once."""
    groups: dict[ProbePlan, list[str]] = {}
    for each in placed:
        for keys in each.group.keys.health:
            for kind in keys.kinds:
                found = each.interface.name if each.interface else ""
                plan = ProbePlan(
                    name=keys.name or "",
                    kind=kind,
                    target=(found,) if kind is ProbeKind.GATEWAY else keys.target(kind),
                    interval=keys.interval,
                    timeout=keys.timeout,
                    rise=keys.rise,
                    fall=keys.fall,
                    weight=keys.weight,
                    max_age=keys.max_age,
                )
                groups.setdefault(plan, []).append(each.group.name)
    return tuple(
        plan if len(names) == len(placed) else msgspec.structs.replace(plan, groups=tuple(names))
        for plan, names in groups.items()
    )


def _interface(group: Group, interfaces: Sequence[Interface], problems: Problems) -> Interface | None:
    keys, label = group.keys, group.label("interface")
    if group.state("interface") is State.WRONG:
        return None
    if keys.interface is not None:
        found = [interface for interface in interfaces if interface.name == keys.interface]
        if not found:
            problems.add(
                label, f"{keys.interface!r} is no interface of this node", f"use one of: {_listed(interfaces)}"
            )
        return found[0] if found else None
    if not keys.vips:
        return None  # reported already
    first = keys.vips[0].ip
    holding = [each for each in interfaces if any(first in address.network for address in each.addresses)]
    if len(holding) == 1:
        return holding[0]
    if holding:
        problems.add(
            label, f"not set, and {first} is in the subnet of several interfaces", f"use one of: {_listed(holding)}"
        )
    else:
        problems.add(label, f"not set, and {first} is in no interface's subnet", f"use one of: {_listed(interfaces)}")
    return None


def _listed(interfaces: Sequence[Interface]) -> str:
    useful = [each for each in interfaces if each.name != "lo"]
    names = [
        f"{each.name} ({', '.join(map(str, each.addresses)) or 'no address'})" for each in useful[:_INTERFACES_LISTED]
    ]
    more = len(useful) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "") or "none, this node has no network interface"


def _source(group: Group, interface: Interface | None, version: Literal[4, 6], problems: Problems) -> IPAddress | None:
    keys = group.keys
    field = {4: "source_address", 6: "source_address6"}[version]
    given = {4: keys.source_address, 6: keys.source_address6}[version]
    if given is not None:
        return given
    if interface is None or group.state(field) is State.WRONG:
        return None
    own = [address.ip for address in interface.addresses if address.version == version]
    if version == 6:
        own.sort(key=lambda address: not address.is_link_local)  # as OpenBSD has it
    if own:
        return next((address for address in own if address in keys.peers), own[0])
    problems.add(
        group.label(field),
        f"not set, and {interface.name} has no IPv{version} address to send adverts from",
        f"give {interface.name} an address, or set this one",
    )
    return None


def _refuse_own(placed: Placed, vip: IPInterface, interfaces: Sequence[Interface], problems: Problems) -> None:
    label, nic = placed.group.label("vips"), placed.interface
    owners = ((each.name, own) for each in interfaces for own in each.addresses if own.ip == vip.ip)
    if found := next(owners, None):
        owner, own = found
        fault = f"{vip.ip} is this node's own address (on {owner})"
        leftover = f"or, if a killed ucarp left it there, remove it: ip addr del {own} dev {owner}"
        problems.add(label, fault, f"use an address that no node has, {leftover}")
    elif vip.ip in placed.sources.values():
        label = placed.group.label("source_address" if vip.version == 4 else "source_address6")
        problems.add(label, f"{vip.ip} is a VIP", "use an address that stays on this node")
    if vip.ip in placed.group.keys.peers:
        fault = f"{vip.ip} is a VIP of this group, not a node's own address"
        problems.add(placed.group.label("peers"), fault, "take it out, or name the node by an address that stays there")
    for subnet in nic.addresses if nic else ():
        if (edge := edge_of_subnet(vip, subnet)) and nic:
            problems.add(label, f"{vip.ip} is {edge} (on {nic.name})", "use the address of one host")


def cautions(placed: Placed, passwords: Sequence[bytes]) -> tuple[str, ...]:
    """Return what is allowed but probably not meant, one line each."""
    group, lines = placed.group, []
    secret = group.label("password_file" if group.keys.password is None else "password")
    longest = max(map(len, passwords), default=0)
    if longest > PASSWORD_BYTES_ELSEWHERE:
        lines.append(
            f"{secret}: the password has {longest} bytes where ucarp and the BSDs' ifconfig take at most "
            f"{PASSWORD_BYTES_ELSEWHERE}; use a shorter one if any of them is to join the group"
        )
    if any(password != password.strip() for password in passwords):
        lines.append(f"{secret}: the password begins or ends with white space; make sure that it does so on every node")
    if group.keys.dead_ratio == 1:
        lines.append(f"{group.label('dead_ratio')}: with 1, a single late advert is a takeover; use 3 if in doubt")
    for version, source in placed.sources.items():
        if placed.interface and all(own.ip != source for own in placed.interface.addresses):
            label = group.label("source_address" if version == 4 else "source_address6")
            lines.append(f"{label}: {source} is not an address of {placed.interface.name}; peers may drop the adverts")
    return (*lines, *_without_effect(placed))


def _without_effect(placed: Placed) -> list[str]:
    group, keys = placed.group, placed.group.keys
    family = f"with {group.label('address_family')}={keys.address_family}"
    idle: dict[str, str] = {}
    if 4 not in placed.versions:
        idle |= dict.fromkeys(("source_address", "multicast_group"), family)
    if 6 not in placed.versions:
        idle |= dict.fromkeys(("source_address6", "multicast_group6"), family)
    if keys.replay == "compat":
        idle["clock_skew"] = f"with {group.label('replay')}=compat"
    if not keys.preempt:
        idle["preempt_delay"] = f"unless {group.label('preempt')} is true"
    return [
        f"{group.label(key)}: has no effect {why}"
        for key, why in idle.items()
        if getattr(keys, key) != GroupKeys.model_fields[key].default
    ]
