"""Stands guard over the VIPs in the kernel: hears what others on this node do to them, and has it put right."""

from __future__ import annotations

import logging
import socket
from collections.abc import Sequence
from ipaddress import ip_interface

from sidecar.guard import OFTEN, WITHIN, Claimed, Disturbance, Guard, Weight
from sidecar.ipc.messages import Disturbed
from sidecar.ipc.plan import GroupPlan
from sidecar.net.address_monitor import AddressMonitor, Change
from sidecar.net.addresses import AddressError, Addresses, IPInterface
from sidecar.observe.moment import boot_time

log = logging.getLogger(__name__)


class Sentry:
    """Watches the VIPs of these groups from ``open`` on."""

    def __init__(self, groups: Sequence[GroupPlan]) -> None:
        self._vips: dict[str, tuple[IPInterface, ...]] = {}
        self._interfaces: dict[str, str] = {}
        self._learn(groups)
        self._homes: dict[str, int] = {}
        self._guard = Guard(self._vips, self._homes)
        self._monitor: AddressMonitor | None = None
        self._kernel: Addresses | None = None

    def _learn(self, groups: Sequence[GroupPlan]) -> None:
        self._vips = {group.name: tuple(ip_interface(vip) for vip in group.vips) for group in groups}
        self._interfaces = {group.name: group.interface for group in groups}

    def change(self, groups: Sequence[GroupPlan]) -> None:
        """Watch the VIPs of these groups; those that are gone, or have other VIPs, hold none."""
        before = self._interfaces
        self._learn(groups)
        # The index of an interface that was renamed meanwhile is known here alone.
        self._homes = {
            name: self._homes[name] if before.get(name) == interface and name in self._homes else _index(interface)
            for name, interface in self._interfaces.items()
        }
        self._guard.change(self._vips, self._homes)
        if self._monitor is not None:
            self._monitor.want({vip.ip for vips in self._vips.values() for vip in vips})

    def open(self, kernel: Addresses) -> int:
        """Read what is there; return the descriptor that becomes readable when it changes."""
        self._kernel = kernel
        self._homes.update({name: _index(interface) for name, interface in self._interfaces.items()})
        self._monitor = AddressMonitor({vip.ip for vips in self._vips.values() for vip in vips})
        self._note(self._monitor.read_all())
        return self._monitor.fileno()

    def close(self) -> None:
        """Watch no more."""
        if self._monitor is not None:
            self._monitor.close()

    def refusal(self, group: str) -> str | None:
        """Return why the group's VIPs must not be bound: one of them is this node's own address; or None."""
        own = self._guard.own(group)
        if own is None:
            return None
        index, address = own
        return (
            f"{address.ip} is this node's own address ({address} on {_name(index)}); remove it: ip addr del {address} "
            f"dev {_name(index)}, or use a VIP that no node has"
        )

    def bound(self, group: str, *, index: int, seconds: int | None) -> None:
        """Watch the VIPs that were just put or extended for so long (None: for ever)."""
        if self._monitor is not None:
            self._guard.bound(group, index=index, seconds=seconds, now=boot_time(), mark=self._monitor.mark)

    def moved(self, group: str, *, index: int) -> None:
        """Take note that the group's interface is another one now."""
        self._homes[group] = index

    def released(self, group: str) -> None:
        """Watch them no more; comes before they are taken off."""
        self._guard.released(group)

    def changes(self, *, down: frozenset[str]) -> list[Disturbed]:
        """Return what the engine has to be told. On interfaces that are ``down`` the kernel itself takes VIPs off."""
        assert self._monitor is not None  # noqa: S101 - narrowing; open() came first
        return self._note(self._monitor.changes(), down=down)

    def fell(self, group: str) -> list[Disturbed]:
        """Return what the engine has to be told of a virtual MAC that somebody set down under the group's VIPs."""
        found = self._guard.disturbed(group, "somebody set the virtual MAC down", boot_time())
        return [] if found is None else [self._report(found)]

    def _note(self, changes: Sequence[Change], *, down: frozenset[str] = frozenset()) -> list[Disturbed]:
        told: list[Disturbed] = []
        for found in self._guard.hear(changes, boot_time()):
            match found:
                case Claimed(group=group, index=index, address=address):
                    log.warning(
                        "%s, a VIP, is configured on %s as this node's own address: while it is, this node does not "
                        "take over; remove it: ip addr del %s dev %s",
                        address.ip,
                        _name(index),
                        address,
                        _name(index),
                        extra={"group": group},
                    )
                case Disturbance(group=group) if self._interfaces[group] not in down:
                    told.append(self._report(found))
        return told

    def _report(self, found: Disturbance) -> Disturbed:
        if found.take_off:
            self._take_off(found.index, found.vip)
        detail = f"{found.detail} on {_name(found.index)}"
        match found.weight:
            case Weight.REPORT:
                log.warning("%s; it is put back and announced again", detail, extra={"group": found.group})
            case Weight.ALARM:
                log.error(
                    "the VIPs of group %s were disturbed more than %d times within %.0f s, the last: %s; something "
                    "on this node manages the addresses of %s: have systemd-networkd (KeepConfiguration=yes), "
                    "NetworkManager (unmanaged-devices) or another VIP manager (keepalived, kube-vip, MetalLB) leave "
                    "it alone; each time it is put back, and no more is said until a minute goes by in peace",
                    found.group,
                    OFTEN,
                    WITHIN,
                    detail,
                    _name(found.index),
                    extra={"group": found.group},
                )
            case Weight.SILENCE:
                log.debug("%s", detail, extra={"group": found.group})
        return Disturbed(group=found.group, detail=detail)

    def _take_off(self, index: int, vip: IPInterface) -> None:
        assert self._kernel is not None  # noqa: S101 - narrowing; open() came first
        try:
            self._kernel.take(index=index, vip=vip)
        except AddressError as error:
            log.error("%s", error)  # noqa: TRY400 - a message for the operator, not a traceback


def _index(interface: str) -> int:
    try:
        return socket.if_nametoindex(interface)
    except OSError:
        return 0


def _name(index: int) -> str:
    try:
        name = socket.if_indextoname(index)
    except OSError:
        return f"interface {index}"
    return name.encode(errors="backslashreplace").decode()  # the kernel takes any bytes, and messages take text
