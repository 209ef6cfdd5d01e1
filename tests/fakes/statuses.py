"""Statuses as an engine would tell them."""

from __future__ import annotations

from typing import Any

import msgspec

from sidecar.ipc.messages import (
    DemotionStatus,
    GroupStatus,
    InterfaceStatus,
    LagStatus,
    LeaseStatus,
    PeerStatus,
    StatusReply,
    TransitionStatus,
)

PEER = PeerStatus(
    address="10.0.0.12",
    password=1,
    adverts=40,
    heard_at=1795408840.0,
    advbase=1,
    advskew=100,
    demotion=0,
    drops={"replayed": 2},
)


def group_status(**changes: Any) -> GroupStatus:
    """Return a master that has been one since the third second, with fields of it changed."""
    group = GroupStatus(
        name="web",
        interface="eth0",
        vhid=42,
        vips=("10.0.0.200/32", "fd00::200/128"),
        role="master",
        since=1795408808.068,
        reason="master-down",
        detail="no advert was heard",
        master="10.0.0.11",
        source="10.0.0.11",
        transitions=2,
        transitions_by_reason={"start": 1, "master-down": 1},
        history=(
            TransitionStatus(
                at=1795408805.0, before="init", after="backup", reason="start", detail="listening for a master"
            ),
            TransitionStatus(
                at=1795408808.068, before="backup", after="master", reason="master-down", detail="no advert was heard"
            ),
        ),
        advbase=1,
        advskew=0,
        demotion=240,
        demotions=(DemotionStatus(name="maintenance", weight=240, detail="new disks"),),
        adverts_sent=30,
        adverts_received=40,
        send_errors=1,
        announcements=4,
        drops={"bad-hmac": 5},
        peers=(PEER,),
        proof="contested",
        contestants=("10.0.0.200 at 02:00:00:00:00:09",),
        lease=LeaseStatus(kind="nftables", why="", remaining_ms=1500),
    )
    return msgspec.structs.replace(group, **changes)


def status_reply(*groups: GroupStatus, **changes: Any) -> StatusReply:
    """Return the status of a node with these groups, or with one."""
    reply = StatusReply(
        token=1,
        node="node-1",
        groups=groups or (group_status(),),
        interfaces=(InterfaceStatus(name="eth0", up=True, drops={"unknown-vhid": 7}),),
        lag=LagStatus(buckets=((0.001, 8), (0.1, 9)), count=10, sum=0.75, maximum=0.5),
    )
    return msgspec.structs.replace(reply, **changes)
