"""Plans as start-up would make them."""

from __future__ import annotations

from typing import Any

import msgspec

from sidecar.ipc.plan import GroupPlan, KubernetesPlan, PathPlan, Plan

KEY = b"correct horse batter"
PATH4 = PathPlan(source="10.0.0.11", multicast_group="224.0.0.18")
PATH6 = PathPlan(source="fe80::11", multicast_group="ff02::12")


def group_plan(**changes: Any) -> GroupPlan:
    """Return a group of default timing with an IPv4 and an IPv6 VIP, with fields of it or of its path changed."""
    path = {name: changes.pop(name) for name in PathPlan.__struct_fields__ if name in changes}
    if path:
        changes["paths"] = (msgspec.structs.replace(PATH4, **path),)
    plan = GroupPlan(
        name="web",
        interface="eth0",
        vhid=42,
        vips=("10.0.0.200/32", "fd00::200/128"),
        paths=(PATH4,),
        key=KEY,
        advbase=1,
        advskew=0,
        dead_ratio=3,
        preempt=False,
    )
    return msgspec.structs.replace(plan, **changes)


def node_plan(
    *groups: GroupPlan, runtime_dir: str = "/run/carp-sidecar", kubernetes: bool = True, http_listen: str = ""
) -> Plan:
    mirror = KubernetesPlan(pod_name="pod", pod_namespace="default", role_label="carp-role", kubeconfig="")
    return Plan(
        node_name="node-1",
        runtime_dir=runtime_dir,
        log_level="info",
        log_format="json",
        groups=groups,
        kubernetes=mirror if kubernetes else None,
        http_listen=http_listen,
        pod="default/pod",
    )
