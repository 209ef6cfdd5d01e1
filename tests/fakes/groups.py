"""One group's state machine in a test's hand: made in a role, and what it wanted in short."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from sidecar.protocol import events
from sidecar.protocol.effects import Advertise, Effect, RoleChanged
from sidecar.protocol.machine import Group
from sidecar.protocol.types import BOW_OUT, GroupConfig, IPAddress, Reason, Role

OWN, PEER, OTHER = IPv4Address("10.0.0.11"), IPv4Address("10.0.0.12"), IPv4Address("10.0.0.13")
OWN6, PEER6 = IPv6Address("fe80::11"), IPv6Address("fe80::12")
TICK = events.Tick()
LEASED = events.LeaseAnswered(error=None)
RELEASED = events.LeaseReleased()


def config(**changes: Any) -> GroupConfig:
    """Return default settings (1 s, skew 0, dead ratio 3, no preempt) with some of them changed."""
    return replace(GroupConfig(name="web", vhid=42, source=OWN), **changes)


def heard(
    *, advbase: int = 1, advskew: int = 0, demotion: int = 0, source: IPAddress = PEER, sealed: bool = False
) -> events.AdvertReceived:
    return events.AdvertReceived(source=source, advbase=advbase, advskew=advskew, demotion=demotion, sealed=sealed)


def goodbye(source: IPAddress = PEER, *, demotion: int = 0) -> events.AdvertReceived:
    return heard(advbase=BOW_OUT, advskew=BOW_OUT, demotion=demotion, source=source)


def backup(*, at: float = 0.0, demotion: int = 0, **changes: Any) -> Group:
    """A group that has just started, demoted by ``demotion``."""
    group = Group(config(**changes))
    group.handle(events.Start(link_up=True), at)
    if demotion:
        group.handle(events.Demote(name="test", weight=demotion, detail="a test"), at)
    return group


def master(*, demotion: int = 0, **changes: Any) -> tuple[Group, float]:
    """A group that took over and whose lease stands, and when it did."""
    group = backup(demotion=demotion, **changes)
    at = group.deadline()
    assert at is not None
    group.handle(TICK, at)
    group.handle(LEASED, at)
    assert group.role is Role.MASTER
    return group, at


def run(group: Group, until: float) -> list[tuple[float, Effect]]:
    """Serve every deadline up to ``until`` at its very moment, with a parent who does all it asks for."""
    done: list[tuple[float, Effect]] = []
    while (now := group.deadline()) is not None and now <= until:
        done += [(now, effect) for effect in group.handle(TICK, now)]
        if group.role is Role.MASTER:
            done += [(now, effect) for effect in group.handle(LEASED, now)]
    return done


def took_over(done: Iterable[Effect]) -> Reason | None:
    """Return why the group became master, or None if it did not."""
    return next((e.reason for e in done if isinstance(e, RoleChanged) and e.after is Role.MASTER), None)


def yielded(done: Iterable[Effect]) -> Reason | None:
    """Return why the group stopped being master, or None if it did not."""
    return next((e.reason for e in done if isinstance(e, RoleChanged) and e.before is Role.MASTER), None)


def adverts(done: Iterable[Effect]) -> list[Advertise]:
    return [effect for effect in done if isinstance(effect, Advertise)]
