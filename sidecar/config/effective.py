"""What ``carp-sidecar check`` shows: the settings in force, secrets masked. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

import msgspec
import yaml

from sidecar.config.settings import Loaded
from sidecar.ipc.plan import GroupPlan, ProbePlan
from sidecar.protocol import timing

MASK = "********"
_FAMILIES = {"4": "ipv4", "6": "ipv6", "46": "both"}


def effective_dict(loaded: Loaded, leases: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the settings in force, fit for JSON; times in seconds, passwords as asterisks.

    ``leases`` says by group how this node's kernel would hold the VIPs; None: it was not asked.
    """
    plan = loaded.plan
    shown: dict[str, Any] = {
        "config_file": loaded.config_file,
        "node_name": plan.node_name,
        "realtime": plan.realtime,
        "runtime_dir": plan.runtime_dir,
        "log_level": plan.log_level,
        "log_format": plan.log_format,
        "http_listen": plan.http_listen or "off",
        "kubernetes": "off",
    }
    if plan.kubernetes is not None:
        shown |= {
            "kubernetes": "on",
            "role_label": plan.kubernetes.role_label,
            "pod_name": plan.kubernetes.pod_name,
            "pod_namespace": plan.kubernetes.pod_namespace,
            "kubeconfig": plan.kubernetes.kubeconfig or None,
            "readiness_condition": plan.kubernetes.readiness_condition,
            "lease_witness": plan.kubernetes.lease_witness,
            "events": plan.kubernetes.events,
            "node_events": plan.kubernetes.node_events,
            "node_annotations": plan.kubernetes.node_annotations,
            "cordon": plan.kubernetes.cordon,
        }
    mirrored = plan.kubernetes is not None
    shown["groups"] = [
        _group(group, loaded.password_files.get(group.name))
        | (_mirror(group) if mirrored else {})
        | {"health": [_probe(probe) for probe in plan.health if probe.concerns(group.name)]}
        | {"lease_in_force": (leases or {}).get(group.name)}
        for group in plan.groups
    ]
    return shown


def effective(loaded: Loaded, leases: Mapping[str, str] | None = None) -> str:
    """Return the settings in force as YAML, with a comment on where each group's timing and lease lead."""
    shown = effective_dict(loaded, leases)
    groups = shown.pop("groups")
    text = _dump(shown) + "groups:\n"
    for group in groups:
        interval, down = group.pop("interval_seconds"), group.pop("master_down_seconds")
        lease = group.pop("lease_in_force")
        lines = _dump(group).splitlines()
        text += "- " + "\n  ".join(lines) + "\n"
        text += f"  # an advert every {interval:.3f} s; a backup takes over {down:.3f} s after the last one\n"
        if lease is not None:
            text += f"  # the lease is by {lease}\n"
    return text


def _group(group: GroupPlan, password_file: str | None) -> dict[str, Any]:
    timers = {"advbase": group.advbase, "advskew": group.advskew}
    shown: dict[str, Any] = {
        "name": group.name,
        "interface": group.interface,
        "vhid": group.vhid,
        "vips": list(group.vips),
        "password": MASK,
    }
    if password_file is not None:
        shown["password_file"] = password_file
    return shown | {
        **timers,
        "dead_ratio": group.dead_ratio,
        "preempt": group.preempt,
        "preempt_delay": f"{group.preempt_delay:g}s",
        "startup_delay": f"{group.startup_delay:g}s",
        "address_family": _FAMILIES["".join(str(ip_address(path.source).version) for path in group.paths)],
        **_sources(group),
        "transport": group.transport,
        "peers": [peer for path in group.paths for peer in path.peers],
        "replay": group.replay,
        "clock_skew": int(group.clock_skew),
        "ignore_link": group.ignore_link,
        "lease": group.lease,
        "mac": group.mac,
        "on_exit": group.on_exit,
        "up_command": shlex.join(group.up_command) or None,
        "down_command": shlex.join(group.down_command) or None,
        "neutral": group.neutral,
        "shutdown": group.shutdown,
        "xparam": group.xparam,
        "interval_seconds": timing.interval(**timers),
        "master_down_seconds": timing.master_down(**timers, dead_ratio=group.dead_ratio),
    }


def _mirror(group: GroupPlan) -> dict[str, Any]:
    return {name: text or None for name, text in msgspec.structs.asdict(group.mirror).items()}


def _probe(probe: ProbePlan) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "name": probe.name,
        probe.kind.value: probe.target[0] if len(probe.target) == 1 else list(probe.target),
        "interval": f"{probe.interval:g}s",
        "timeout": f"{probe.timeout:g}s",
        "rise": probe.rise,
        "fall": probe.fall,
        "weight": probe.weight,
    }
    return shown if probe.max_age is None else shown | {"max_age": f"{probe.max_age:g}s"}


def _sources(group: GroupPlan) -> dict[str, str]:
    shown: dict[str, str] = {}
    for path in group.paths:
        suffix = "6" if ip_address(path.source).version == 6 else ""
        shown |= {f"source_address{suffix}": path.source, f"multicast_group{suffix}": path.multicast_group}
    return shown


def _dump(data: dict[str, Any]) -> str:
    return str(yaml.safe_dump(data, sort_keys=False, allow_unicode=True, default_flow_style=False, width=1000))
