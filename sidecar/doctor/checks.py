"""The doctor's judgement: from facts to findings. Pure."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface

from sidecar.capture.vrrp import WireProtocol
from sidecar.doctor.facts import Facts, Heard, Host, Nic, Right
from sidecar.ipc.plan import GroupPlan
from sidecar.protocol import timing

PASSWORD_AT_LEAST = 8
"""Bytes: what is heard on the LAN can be tried offline, at any speed."""
_PASSWORD_ELSEWHERE = 19
_NEVER_ANSWERS = 8
"""arp_ignore of 8: no answers at all; of 2: only to those in the address's own subnet, and a /32 has none."""
_ANSWERS_ITS_SUBNET = 2
_STRICT_ARP = 1
_STRICT_PATH = 1
_OTHER_WAYS = "try transport: unicast with peers, or broadcast; `carp-sidecar sniff` shows what arrives"


class Verdict(enum.Enum):
    """How it is."""

    PASS = "pass"  # noqa: S105 - not a password
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, how it is, and what to do about it (empty where nothing is to be done)."""

    check: str
    verdict: Verdict
    text: str
    remedy: str = ""


def worst(findings: Iterable[Finding]) -> Verdict:
    """Return the verdict over all."""
    order = list(Verdict)
    return max((finding.verdict for finding in findings), key=order.index, default=Verdict.PASS)


def judge(facts: Facts) -> tuple[Finding, ...]:
    """Return every finding, those of the machine first."""
    return (
        *host_findings(facts.host, facts.groups),
        *leftover_findings(facts),
        *(finding for group in facts.groups for finding in group_findings(group, facts)),
        *stranger_findings(facts),
        *rights_findings(facts.rights),
    )


def settings_findings(errors: Iterable[str], warnings: Iterable[str]) -> Iterator[Finding]:
    """Judge the settings: each line of theirs has its own remedy."""
    faults = [Finding("settings", Verdict.FAIL, line) for line in errors]
    cautions = [Finding("settings", Verdict.WARN, line) for line in warnings]
    yield from faults + cautions or [Finding("settings", Verdict.PASS, "valid")]


# The machine ---------------------------------------------------------------------------------------------------------


def host_findings(host: Host, groups: tuple[GroupPlan, ...]) -> Iterator[Finding]:
    """Judge the machine and this process."""
    yield _privileges(host)
    yield _lifetimes(host)
    yield _cutoff(host, groups)
    yield _clock(host, groups)
    yield _cpu(host)
    yield _realtime(host, groups)


def _privileges(host: Host) -> Finding:
    if host.missing_capabilities:
        remedy = "run as root, or with securityContext.capabilities.add [NET_ADMIN, NET_RAW] in the pod"
        return Finding("privileges", Verdict.FAIL, f"no {' and no '.join(host.missing_capabilities)}", remedy)
    return Finding("privileges", Verdict.PASS, "NET_ADMIN and NET_RAW")


def _lifetimes(host: Host) -> Finding:
    if host.lifetimes is not None:
        remedy = (
            "without it a killed sidecar leaves the VIP behind; see the kernel's log, or set lease: off and know why"
        )
        return Finding("kernel lifetimes", Verdict.FAIL, host.lifetimes, remedy)
    return Finding("kernel lifetimes", Verdict.PASS, "the kernel took off an address when its lifetime was over")


def _cutoff(host: Host, groups: tuple[GroupPlan, ...]) -> Finding:
    if host.cutoff is None:
        return Finding("nftables", Verdict.PASS, "leases in milliseconds work")
    short = [group.name for group in groups if group.advbase == 0 and group.lease == "auto"]
    text = f"leases count whole seconds: {host.cutoff}"
    if short:
        remedy = "load nf_tables, or use an advbase of at least 1: until then two nodes can answer after a SIGKILL"
        return Finding("nftables", Verdict.WARN, f"{text}, too coarse for {', '.join(short)}", remedy)
    return Finding("nftables", Verdict.PASS, f"{text}; enough for an advbase of at least 1")


def _clock(host: Host, groups: tuple[GroupPlan, ...]) -> Finding:
    strict = [group.name for group in groups if group.replay == "strict"]
    if host.clock_synchronised is None:
        return Finding("clock", Verdict.WARN, "not known: adjtimex is forbidden here", "ask the node: timedatectl")
    if host.clock_synchronised:
        return Finding("clock", Verdict.PASS, "synchronised")
    if not strict:
        return Finding("clock", Verdict.PASS, "not synchronised; only replay: strict needs it")
    text = f"not synchronised: with replay: strict ({', '.join(strict)}) adverts from too far away in time are refused"
    return Finding("clock", Verdict.WARN, text, "run chrony, ntpd or systemd-timesyncd on every node")


def _cpu(host: Host) -> Finding:
    if host.cpu_cores is None:
        return Finding("CPU limit", Verdict.PASS, "none")
    text = f"{host.cpu_cores:g} cores: a process that has used its share is stopped for up to 100 ms"
    remedy = "remove resources.limits.cpu; the request alone makes sure of its part"
    return Finding("CPU limit", Verdict.WARN, text, remedy)


def _realtime(host: Host, groups: tuple[GroupPlan, ...]) -> Finding:
    fast = [group.name for group in groups if group.advbase == 0]
    if host.realtime is None:
        return Finding("scheduling", Verdict.PASS, "real-time scheduling is allowed")
    if not fast:
        return Finding("scheduling", Verdict.PASS, "as usual; only an advbase of 0 wants real-time scheduling")
    text = f"no real-time scheduling for {', '.join(fast)}: {host.realtime}; what is busy on this node delays adverts"
    remedy = "add the capability SYS_NICE (realtimeScheduling: true in the chart), or use an advbase of at least 1"
    return Finding("scheduling", Verdict.WARN, text, remedy)


def leftover_findings(facts: Facts) -> Iterator[Finding]:
    """Judge a virtual MAC that is there although no sidecar runs here."""
    if facts.roles is not None:
        return
    for name in facts.leftovers:
        text = f"{name} is what a sidecar left that was killed as a whole; it says nothing and has no address"
        remedy = f"start the sidecar, which goes on with it or removes it; for good: ip link del {name}"
        yield Finding("virtual MAC", Verdict.WARN, text, remedy)


# A group -------------------------------------------------------------------------------------------------------------


def group_findings(group: GroupPlan, facts: Facts) -> Iterator[Finding]:
    """Judge one group: its interface, its addresses, its password, its peers."""
    nic = facts.nics[group.interface]
    yield _interface(group, nic)
    for vip in group.vips:
        yield _subnet(group, nic, vip)
        if ip_interface(vip).version == 4:
            yield _arp(group, nic, vip, facts.host)
        if facts.wire is None:
            yield _owner(group, vip, facts)
    yield _reverse_path(group, nic)
    yield _password(group)
    yield _peers(group, facts)


def _interface(group: GroupPlan, nic: Nic) -> Finding:
    check = f"{group.name}: interface"
    sources = [path.source for path in group.paths]
    strange = [source for source in sources if ip_address(source) not in {own.ip for own in nic.addresses}]
    if not nic.up:
        return Finding(
            check, Verdict.FAIL, f"{nic.name} is down or has no carrier", f"ip link set {nic.name} up; the cable"
        )
    if strange:
        text = f"{strange[0]} is not an address of {nic.name}"
        return Finding(check, Verdict.WARN, text, "give it to the interface, or leave source_address out")
    return Finding(check, Verdict.PASS, f"{nic.name} is up, adverts come from {' and '.join(sources)}")


def _subnet(group: GroupPlan, nic: Nic, vip: str) -> Finding:
    check, address = f"{group.name}: {ip_interface(vip).ip}", ip_interface(vip)
    within = [own for own in nic.addresses if address.ip in own.network]
    if within:
        return Finding(check, Verdict.PASS, f"in the subnet {within[0].network} of {nic.name}")
    if address.network.prefixlen < address.max_prefixlen:
        return Finding(check, Verdict.PASS, f"brings its subnet {address.network} to {nic.name}")
    text = f"in no subnet of {nic.name}: hosts of the LAN do not look for it here"
    return Finding(check, Verdict.WARN, text, "use an address of the LAN, or have the router send it to this LAN")


def _arp(group: GroupPlan, nic: Nic, vip: str, host: Host) -> Finding:
    check, address = f"{group.name}: ARP for {ip_interface(vip).ip}", ip_interface(vip)
    alone = address.network.prefixlen == address.max_prefixlen
    if nic.arp_ignore == _NEVER_ANSWERS or (nic.arp_ignore == _ANSWERS_ITS_SUBNET and alone):
        text = f"arp_ignore is {nic.arp_ignore} on {nic.name}: the master would not answer for the VIP"
        return Finding(check, Verdict.FAIL, text, f"sysctl net.ipv4.conf.{nic.name}.arp_ignore=1, and all.arp_ignore=1")
    if host.ipvs is not None and nic.arp_ignore < _STRICT_ARP:
        there = address.ip in host.ipvs
        text = f"kube-proxy has {'this VIP' if there else 'Service addresses'} on kube-ipvs0 and arp_ignore is 0"
        verdict = Verdict.FAIL if there else Verdict.WARN
        return Finding(
            check, verdict, f"{text}: every node answers", "set strictARP: true in kube-proxy's configuration"
        )
    return Finding(check, Verdict.PASS, f"the master answers (arp_ignore {nic.arp_ignore})")


def _owner(group: GroupPlan, vip: str, facts: Facts) -> Finding:
    address = ip_interface(vip).ip
    check, owner = f"{group.name}: owner of {address}", facts.owners.get(address)
    masters = sorted({each.source for each in _authentic(group, facts)})
    ours = (facts.roles or {}).get(group.name) == "master"
    if owner is None:
        return Finding(check, Verdict.PASS, "this node" if ours else "no other machine answers")
    if ours:
        text = f"{owner} answers as well while this node is master"
        return Finding(check, Verdict.FAIL, text, "find that machine; it has the address without being master")
    if masters:
        return Finding(check, Verdict.PASS, f"{owner}, while {' and '.join(masters)} is master")
    text = f"{owner} has it, and no master of this group is heard"
    return Finding(check, Verdict.FAIL, text, "use an address that nobody has, or find out why its master is not heard")


def _reverse_path(group: GroupPlan, nic: Nic) -> Finding:
    check = f"{group.name}: reverse path"
    if nic.rp_filter != _STRICT_PATH:
        return Finding(check, Verdict.PASS, f"rp_filter {nic.rp_filter} on {nic.name}")
    strays = [vip for vip in group.vips if not any(ip_interface(vip).ip in own.network for own in nic.addresses)]
    if not strays:
        return Finding(check, Verdict.PASS, f"rp_filter 1 on {nic.name}, which is where its clients are")
    text = f"rp_filter 1 on {nic.name}: packets of clients that this node reaches by another interface are dropped"
    return Finding(check, Verdict.WARN, text, f"sysctl net.ipv4.conf.{nic.name}.rp_filter=2")


def _password(group: GroupPlan) -> Finding:
    check = f"{group.name}: password"
    length = len(group.key.rstrip(b"\0"))
    if length > _PASSWORD_ELSEWHERE and group.replay == "compat":
        remedy = f"use at most {_PASSWORD_ELSEWHERE} bytes: ucarp and the BSDs take no more"
        return Finding(check, Verdict.WARN, f"{length} bytes with replay: compat", remedy)
    if length < PASSWORD_AT_LEAST:
        remedy = "use 16 or more random letters and digits: whoever hears an advert can try passwords offline"
        return Finding(check, Verdict.WARN, f"{length} bytes are guessed in no time", remedy)
    return Finding(check, Verdict.PASS, f"{length} bytes")


def _authentic(group: GroupPlan, facts: Facts) -> list[Heard]:
    return [each for each in _same_number(group, facts) if each.protocol is WireProtocol.CARP and each.authentic]


def _same_number(group: GroupPlan, facts: Facts) -> list[Heard]:
    return [each for each in facts.heard if each.interface == group.interface and each.vhid == group.vhid]


def _peers(group: GroupPlan, facts: Facts) -> Finding:
    """Judge whether adverts arrive. Only a master advertises, so it depends on who is."""
    check = f"{group.name}: adverts"
    if facts.wire is not None:
        return Finding(check, Verdict.FAIL, facts.wire, "see privileges and interface")
    masters = " and ".join(sorted({each.source for each in _authentic(group, facts)}))
    role = (facts.roles or {}).get(group.name)
    match role:
        case "master" if masters:
            text = f"{masters} is master as well as this node: {_may_not_pass(group)} one way"
            return Finding(check, Verdict.FAIL, text, _OTHER_WAYS)
        case "master":
            text = f"this node is master and heard no other in {facts.seconds:.0f} s"
            return Finding(check, Verdict.PASS, f"{text}; a backup's doctor tells whether its adverts arrive")
        case _ if masters:
            return Finding(check, Verdict.PASS, f"arrive from {masters}, the master")
        case _:
            return _silence(check, group, facts, role)


def _may_not_pass(group: GroupPlan) -> str:
    return f"{group.transport} may not pass: switches that snoop without a querier, firewalls on protocol 112"


def _silence(check: str, group: GroupPlan, facts: Facts, role: str | None) -> Finding:
    """Judge that this node, which is no master, has heard none."""
    waited, between = f"in {facts.seconds:.0f} s", timing.interval(advbase=group.advbase, advskew=254)
    if facts.seconds < between:
        text = f"no master was heard {waited}, which may be less than the time between two adverts"
        return Finding(check, Verdict.WARN, text, f"listen for longer: --seconds {math.ceil(between) * 2}")
    if role is None:
        text = f"no master was heard {waited}: right for the first node only"
        return Finding(check, Verdict.WARN, text, f"if another node runs, {_may_not_pass(group)}; {_OTHER_WAYS}")
    down = timing.master_down(advbase=group.advbase, advskew=group.advskew, dead_ratio=group.dead_ratio)
    text = f"this node is {role} and heard no master {waited}, where {down:.1f} s make a new one"
    return Finding(check, Verdict.FAIL, text, f"{_may_not_pass(group)}; {_OTHER_WAYS}")


# The others ----------------------------------------------------------------------------------------------------------


def stranger_findings(facts: Facts) -> Iterator[Finding]:
    """Judge who else speaks CARP or VRRP on the groups' interfaces."""
    ours = {(group.interface, group.vhid): group.name for group in facts.groups}
    others: list[str] = []
    for each in sorted(set(facts.heard), key=lambda heard: (heard.interface, heard.vhid or 0, heard.source)):
        name = ours.get((each.interface, each.vhid or 0))
        who = f"{each.source} on {each.interface}"
        match each.protocol:
            case WireProtocol.CARP if name is None:
                others.append(f"vhid {each.vhid} of {who}")
            case WireProtocol.CARP if not each.authentic:
                text = f"{who} uses vhid {each.vhid} with another password or other VIPs"
                remedy = "make them the same on every node, or take another vhid if it is another group"
                yield Finding(f"{name}: vhid", Verdict.FAIL, text, remedy)
            case WireProtocol.CARP:
                pass
            case _ if name is not None:
                text = f"{who} is a {each.protocol} router of the same number: the two share a virtual MAC"
                yield Finding(f"{name}: vhid", Verdict.WARN, text, "take a vhid that no VRRP router of this LAN has")
            case _:
                others.append(f"{each.protocol} router {each.vhid} of {who}")
    if facts.groups and facts.wire is None:
        yield Finding("others on the LAN", Verdict.PASS, ", ".join(others) or "none")


# Kubernetes ----------------------------------------------------------------------------------------------------------


def rights_findings(rights: tuple[Right, ...] | str | None) -> Iterator[Finding]:
    """Judge what the API server lets this pod do. Without it the VIP works and the labels do not follow."""
    match rights:
        case None:
            return
        case str():
            yield Finding("Kubernetes", Verdict.WARN, rights, "the VIP does not need it; the labels wait for it")
        case _:
            refused = [str(right) for right in rights if not right.granted]
            if refused:
                roles = dict.fromkeys(
                    "ClusterRole" if r.resource == "nodes" else "Role" for r in rights if not r.granted
                )
                remedy = f"bind the {' and the '.join(roles)} that the chart ships to this pod's service account"
                yield Finding("Kubernetes", Verdict.FAIL, f"no right to {', '.join(refused)}", remedy)
            else:
                yield Finding("Kubernetes", Verdict.PASS, f"all {len(rights)} rights of the mirror are granted")
