"""The engine's status for people and for machines."""

from __future__ import annotations

import msgspec

from sidecar.ipc.messages import (
    DemotionStatus,
    GroupStatus,
    LagStatus,
    LeaseStatus,
    PeerStatus,
    SettingsStatus,
    StatusReply,
)
from sidecar.observe.colour import Paint, plain
from sidecar.observe.moment import rfc3339


def as_document(reply: StatusReply) -> dict[str, object]:
    """Return one JSON object: ``node``, ``settings``, ``groups``, ``interfaces``, ``lag`` in seconds.

    Times are RFC 3339.
    """
    return {
        "node": reply.node,
        "settings": None if reply.settings is None else _settings_object(reply.settings),
        "groups": [_group_object(group) for group in reply.groups],
        "interfaces": msgspec.to_builtins(reply.interfaces),
        "lag": msgspec.to_builtins(reply.lag),
    }


def as_json_text(reply: StatusReply, *, indent: int = 2) -> str:
    """Return that object as text for people and machines; on one line if ``indent`` is 0."""
    return msgspec.json.format(msgspec.json.encode(as_document(reply)), indent=indent or -1).decode()


def _settings_object(settings: SettingsStatus) -> dict[str, object]:
    since, until = settings.refused_since, settings.refused_until
    return {
        **msgspec.to_builtins(settings),
        "applied_at": rfc3339(settings.applied_at),
        "refused_since": None if since is None else rfc3339(since),
        "refused_until": None if until is None else rfc3339(until),
    }


def _group_object(group: GroupStatus) -> dict[str, object]:
    peers = [
        {**msgspec.to_builtins(peer), "heard_at": None if peer.heard_at is None else rfc3339(peer.heard_at)}
        for peer in group.peers
    ]
    history = [{**msgspec.to_builtins(each), "at": rfc3339(each.at)} for each in group.history]
    return {**msgspec.to_builtins(group), "since": rfc3339(group.since), "history": history, "peers": peers}


def as_text(reply: StatusReply, paint: Paint = plain) -> str:
    """Return a few lines per group."""
    lines: list[str] = []
    for group in reply.groups:
        lines += _group_lines(group, paint)
    for interface in reply.interfaces:
        if not interface.up:
            lines.append(f"interface {interface.name}: {paint('no carrier', 'bad')}")
        if interface.drops:
            lines.append(f"interface {interface.name}: packets for no group of ours: {_counts(interface.drops)}")
            lines += [f"  from      {peer.address}  {_counts(peer.drops)}" for peer in interface.peers]
    if reply.lag.count:
        lines.append(f"loop lag: {lag_text(reply.lag)}")
    return "\n".join([*lines, *(_settings_lines(reply.settings, paint) if reply.settings else [])])


def _settings_lines(settings: SettingsStatus, paint: Paint) -> list[str]:
    lines = []
    if settings.generation > 1:
        lines.append(f"settings: changed {settings.generation - 1} times, the last {rfc3339(settings.applied_at)}")
    if settings.refused_since is not None:
        since = f"newer ones are refused since {rfc3339(settings.refused_since)}"
        lines += [f"settings: {paint(since, 'bad')}", *(f"  REFUSED   {line}" for line in settings.errors)]
    return lines


def as_line(group: GroupStatus) -> str:
    """Return one line, as ucarp logs it on SIGUSR1, with what it does not know."""
    master = "" if group.master in (None, group.source) else f", the master is {group.master}"
    demotion = f", demoted by {group.demotion}" if group.demotion else ""
    return (
        f"{group.role.upper()} on {group.interface} vhid {group.vhid} ({', '.join(group.vips)}) since "
        f"{rfc3339(group.since)}: {group.detail}{master}{demotion}"
    )


def lag_text(lag: LagStatus) -> str:
    """Say how late nearly all wake-ups were at most, and the worst of them."""
    most = next((bound for bound, count in lag.buckets if count >= 0.99 * lag.count), None)
    under = "" if most is None else f"99 % under {most * 1e3:g} ms, "
    return f"{under}at most {lag.maximum * 1e3:.1f} ms in {lag.count:,} wake-ups"


def _group_lines(group: GroupStatus, paint: Paint) -> list[str]:
    master = "nobody known" if group.master is None else group.master
    own = group.source if group.second_source is None else f"{group.source}, {group.second_source}"
    if group.master == group.source:
        master = f"{group.master} (this node)"
    role = paint(group.role.upper(), group.role)
    return [
        f"{group.name}: {role}  vhid {group.vhid} on {group.interface}  {', '.join(group.vips)}",
        f"  since     {rfc3339(group.since)}  ({group.reason}: {group.detail})",
        f"  master    {master}",
        f"  own       {own}  advbase {group.advbase}  advskew {group.advskew}",
        *(
            f"  {paint('demoted', 'init')}   by {each.weight}  ({each.name}: {each.detail}){_left(each)}"
            for each in group.demotions
        ),
        *(f"  {paint('RIVAL', 'bad')}     {each} is master too and goes on" for each in group.rivals),
        *([f"  {paint('HELD BACK', 'bad')} {group.held_back}"] if group.held_back else []),
        *([f"  announced {_proof(group)}"] if group.proof else []),
        *(
            [f"  {paint('DISTURBED', 'bad')} {group.disturbances} times; the last: {group.disturbance}"]
            if group.disturbance
            else []
        ),
        f"  changes   {group.transitions}",
        *([] if group.lease is None else [f"  lease     {_lease(group.lease)}"]),
        f"  adverts   sent {group.adverts_sent}  received {group.adverts_received}  send errors {group.send_errors}",
        f"  dropped   {_counts(group.drops) or 'none'}",
        *(f"  peer      {_peer(peer)}" for peer in group.peers),
    ]


def _lease(lease: LeaseStatus) -> str:
    remaining = "" if lease.remaining_ms is None else f"{lease.remaining_ms} ms left, "
    return f"{remaining}by {lease.kind}" + (f", since {lease.why}" if lease.why else "")


def _proof(group: GroupStatus) -> str:
    return {
        "confirmed": "and confirmed: a neighbour knows the way, and nobody else answers",
        "contested": f"but CONTESTED: {', '.join(group.contestants)}",
    }.get(group.proof or "", "but not confirmed: no neighbour answered")


def _left(demotion: DemotionStatus) -> str:
    return "" if demotion.seconds is None else f", for {demotion.seconds:.0f} s more"


def _peer(peer: PeerStatus) -> str:
    if peer.heard_at is None:
        said = "no valid advert"
    else:
        said = (
            f"{peer.adverts} adverts, the last {rfc3339(peer.heard_at)}: advbase {peer.advbase} advskew {peer.advskew} "
            f"demotion {peer.demotion}, password {peer.password}"
        )
    return f"{peer.address}  {said}" + (f"; dropped: {_counts(peer.drops)}" if peer.drops else "")


def _counts(drops: dict[str, int]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in drops.items())
