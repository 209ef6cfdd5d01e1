"""What the parent holds of the kernel's: the links, the packet sockets, the multicast memberships, the VIPs' leases."""

from __future__ import annotations

import logging
import socket
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_interface
from typing import Literal

from sidecar.exits import EXIT_FAILED, EXIT_PRIVILEGE, EXIT_SETTINGS, ExitError
from sidecar.ipc.messages import Disturbed, LinkChanged, Message, OpenInterface
from sidecar.ipc.plan import GroupPlan
from sidecar.leases import Leases
from sidecar.net import sockets
from sidecar.net.addresses import Addresses, Link
from sidecar.net.links import LinkMonitor, LinksLostError
from sidecar.net.own_table import OwnTableError
from sidecar.net.virtual_mac import VirtualMacError
from sidecar.protocol.types import IPAddress, virtual_mac

log = logging.getLogger(__name__)

_VIRTUAL = virtual_mac(0)[:5]


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """The sockets of one interface by IP version: packet sockets, raw ones for unicast, ears for who has which VIP."""

    wires: dict[Literal[4, 6], socket.socket]
    raws: dict[Literal[4, 6], socket.socket]
    answers: dict[Literal[4, 6], socket.socket]

    @property
    def every(self) -> tuple[socket.socket, ...]:
        """All of them, in this order."""
        return (*self.wires.values(), *self.raws.values(), *self.answers.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Interfaces:
    """The interfaces that the engine has to be told of, by name."""

    opened: tuple[str, ...]
    """Those with new sockets."""
    closed: tuple[str, ...]


class Holdings:
    """The kernel's state of these groups. ``open`` comes first, then ``open_interfaces``, then ``leases.begin``."""

    def __init__(self, groups: Sequence[GroupPlan]) -> None:
        self.links: dict[str, Link] = {}
        self.sockets: dict[str, Opened] = {}
        """By interface."""
        self.leases = Leases(groups)
        self._groups = groups
        self._addresses: Addresses | None = None
        self._monitor: LinkMonitor | None = None
        self._memberships: dict[tuple[str, str], socket.socket] = {}
        self._gone: set[str] = set()
        """Interfaces of ours that were deleted or renamed."""
        self._prepared: dict[str, Opened] = {}
        self._prepared_memberships: dict[tuple[str, str], socket.socket] = {}
        self._replaced: set[str] = set()
        """Interfaces that the engine has to be told of anew."""
        self._touched: set[int] = set()
        """The indexes of all interfaces that changed since ``disturbed_links``."""

    def open(self) -> int:
        """Read the links; return the descriptor that becomes readable when one changes."""
        self._addresses = Addresses()
        self._monitor = LinkMonitor()
        self.links = {link.name: link for link in self._addresses.links()}
        self.leases.open(self._addresses)
        return self._monitor.fileno()

    def close(self) -> None:
        """Take all VIPs off and give everything else back."""
        if self._addresses is None or self._monitor is None:
            return
        self._forget_prepared()
        self.leases.release_all()
        self.leases.close()
        self._addresses.close()
        self._monitor.close()
        for sock in (*(each for opened in self.sockets.values() for each in opened.every), *self._memberships.values()):
            sock.close()

    # Interfaces --------------------------------------------------------------------------------------------------

    def open_interfaces(self) -> None:
        """Open what the groups speak through. Raises ExitError."""
        for group in self._groups:
            link = self._link_of(group)
            if group.interface not in self.sockets:
                self.sockets[group.interface] = self._open_sockets(group.interface)
            self._join(group, link.index)
            try:
                self.leases.place(group.name, index=link.index)
            except (VirtualMacError, OwnTableError) as error:
                raise ExitError(EXIT_SETTINGS, f"CARP_MAC: {error}; use CARP_MAC=interface") from error

    def _link_of(self, group: GroupPlan) -> Link:
        link = self.links.get(group.interface)
        if link is None or not link.mac:
            fault = "is not there" if link is None else "is not an Ethernet interface"
            raise ExitError(EXIT_SETTINGS, f"CARP_INTERFACE: {group.interface} {fault}; there are: {self._names()}")
        return link

    def _reopen(self, link: Link) -> bool:
        """Go over to another interface of the same name; return whether that worked. Raises ExitError."""
        groups = [group for group in self._groups if group.interface == link.name]
        old = self.links[link.name]
        log.warning("interface %s was replaced (index %d -> %d)", link.name, old.index, link.index)
        try:
            opened = self._open_sockets(link.name)
            for membership in [each for each in self._memberships if each[0] == link.name]:
                self._memberships.pop(membership).close()
            for group in groups:
                self._join(group, link.index)
                self.leases.move(group.name, index=link.index)
        except (ExitError, OSError, VirtualMacError, OwnTableError) as error:
            if isinstance(error, ExitError) and error.code == EXIT_PRIVILEGE:
                raise
            log.error("%s; it is tried again when something changes", error)  # noqa: TRY400 - for the operator
            return False
        for sock in self.sockets[link.name].every:
            sock.close()
        self.sockets[link.name] = opened
        self._replaced.add(link.name)
        return True

    def _join(self, group: GroupPlan, index: int) -> None:
        for membership in _memberships(group):
            if membership not in self._memberships:
                self._memberships[membership] = sockets.join(index=index, group=ip_address(membership[1]))

    def _open_sockets(self, interface: str) -> Opened:
        return self._open_some(interface, _spoken(self._groups, interface), _vips(self._groups, interface))

    def _open_some(self, interface: str, spoken: Collection[Literal[4, 6]], vips: Sequence[IPAddress]) -> Opened:
        try:
            return Opened(
                wires={version: sockets.open_packet_socket(interface, version) for version in sorted(spoken)},
                raws={version: sockets.open_raw_socket(interface, version) for version in sorted(spoken)},
                answers={
                    version: sockets.open_answers_socket(interface, version, vips)
                    for version in sorted({vip.version for vip in vips})
                },
            )
        except PermissionError as error:
            raise ExitError(EXIT_PRIVILEGE, f"cannot open a packet socket on {interface}: {error.strerror}") from error
        except OSError as error:
            raise ExitError(EXIT_FAILED, f"cannot open a packet socket on {interface}: {error.strerror}") from error

    # Other settings ----------------------------------------------------------------------------------------------

    def prepare(self, groups: Sequence[GroupPlan]) -> None:
        """Open what these groups need beside what is open; whatever is in use stays as it is. Raises ExitError."""
        self._forget_prepared()
        self.links |= {link.name: link for link in self._kernel.links() if link.name not in self.sockets}
        try:
            for group in groups:
                self._prepare(group, groups)
        except ExitError:
            self._forget_prepared()
            raise

    def _prepare(self, group: GroupPlan, groups: Sequence[GroupPlan]) -> None:
        link, name = self._link_of(group), group.interface
        there = self.sockets.get(name)
        spoken = _spoken(groups, name) - (set() if there is None else there.wires.keys())
        vips = _vips(groups, name)  # the ears for them hear of these and of no others
        if there is not None and vips == _vips(self._groups, name):
            vips = []
        if (spoken or vips) and name not in self._prepared:
            self._prepared[name] = self._open_some(name, spoken, vips)
        for membership in _memberships(group):
            if membership not in self._memberships and membership not in self._prepared_memberships:
                try:
                    joined = sockets.join(index=link.index, group=ip_address(membership[1]))
                except OSError as error:
                    fault = f"cannot join {membership[1]} on {membership[0]}: {error.strerror}"
                    raise ExitError(EXIT_FAILED, fault) from error
                self._prepared_memberships[membership] = joined

    def _forget_prepared(self) -> None:
        unused = (each for opened in self._prepared.values() for each in opened.every)
        for sock in (*unused, *self._prepared_memberships.values()):
            sock.close()
        self._prepared.clear()
        self._prepared_memberships.clear()

    def change(self, groups: Sequence[GroupPlan], *, ended: Collection[str]) -> Interfaces:
        """Go on with these groups, for which all was prepared; those that ``ended`` are gone, or begin anew."""
        known = {group.name for group in self._groups} - set(ended)
        self.leases.change(groups, ended=ended)
        self._groups = groups
        for name, opened in self._prepared.items():
            self.sockets[name] = _joined(self.sockets[name], opened) if name in self.sockets else opened
        self._memberships |= self._prepared_memberships
        new = tuple(self._prepared)
        self._prepared.clear()
        self._prepared_memberships.clear()
        self.leases.begun({group.name: self._link_of(group).index for group in groups if group.name not in known})
        return Interfaces(opened=new, closed=self._close_unused())

    def _close_unused(self) -> tuple[str, ...]:
        wanted = {membership for group in self._groups for membership in _memberships(group)}
        for membership in self._memberships.keys() - wanted:
            self._memberships.pop(membership).close()
        closed = tuple(self.sockets.keys() - {group.interface for group in self._groups})
        for name in closed:
            for sock in self.sockets.pop(name).every:
                sock.close()
        self._replaced -= set(closed)
        self._gone -= set(closed)
        return closed

    def introductions(self, names: Collection[str] | None = None) -> Iterator[tuple[Message, list[int]]]:
        """Return what an engine is told of these interfaces, or all, and the descriptors that go with it."""
        if names is None:
            self._replaced.clear()
        for name in self.sockets if names is None else names:
            yield self._introduction(name)

    def news(self, link: Link) -> tuple[Message, list[int]]:
        """Return what the engine is told of a link that changed, with descriptors if it is another one now."""
        if link.name in self._replaced:
            self._replaced.discard(link.name)
            return self._introduction(link.name)
        return LinkChanged(interface=link.name, up=link.up, mac=link.mac), []

    def _introduction(self, name: str) -> tuple[Message, list[int]]:
        link, opened = self.links[name], self.sockets[name]
        own_macs = {each.mac for each in self._kernel.links() if each.mac and each.mac[:5] != _VIRTUAL}
        message = OpenInterface(
            interface=name,
            index=link.index,
            mac=link.mac,
            up=link.up,
            wires=tuple(opened.wires),
            raws=tuple(opened.raws),
            answers=tuple(opened.answers),
            gateways=tuple(str(gateway) for index, gateway in self._kernel.gateways() if index == link.index),
            own_macs=tuple(sorted(own_macs)),
        )
        return message, [sock.fileno() for sock in opened.every]

    def _names(self) -> str:
        return ", ".join(sorted(link.name for link in self.links.values() if link.mac)) or "none"

    def changed_links(self) -> list[Link]:
        """Return those of our links that changed, under the names that they have in the settings.

        One that was replaced by another of the same name is opened anew. Raises ExitError.
        """
        assert self._monitor is not None  # noqa: S101 - narrowing; open() came first
        try:
            told = self._monitor.changes()
        except LinksLostError:
            told = list(self._kernel.links())
        self._touched |= {each.index for each in told}
        changed = []
        for each in told:
            link = self._as_known(each)
            known = self.links.get(link.name)
            if link.name not in self.sockets or known is None or known == link:
                continue
            # Another index and down: an old one that goes, or a new one that is not there yet.
            if known.index != link.index and not (link.up and self._reopen(link)):
                continue
            self.links[link.name] = link
            changed.append(link)
        self._note_gone()
        return changed

    def _as_known(self, link: Link) -> Link:
        """Return a link that was renamed under the name that the settings have for it, until another has that."""
        if link.name in self.sockets:
            return link
        ours = (name for name in self.sockets if self.links[name].index == link.index and not _is_there(name))
        return replace(link, name=next(ours, link.name))

    def _note_gone(self) -> None:
        """Warn once of an interface that is deleted or renamed."""
        gone = {name for name in self.sockets if not _is_there(name)}
        for name in sorted(gone - self._gone):
            now_called = _name_of(self.links[name].index)
            if now_called is not None:
                fate = f"its groups go on with {now_called}, until there is another of this name"
            else:
                fate = "its groups wait until there is one again, with a carrier"
            log.warning("there is no interface %s any more: %s", name, fate, extra={"interface": name})
        self._gone = gone

    def watch_addresses(self) -> int:
        """Return the descriptor that becomes readable when somebody else touches a VIP."""
        return self.leases.sentry.open(self._kernel)

    def disturbed(self) -> list[Disturbed]:
        """Return what was done to VIPs that are held; ``changed_links`` comes first."""
        return self.leases.disturbed(down=frozenset(name for name in self.sockets if not self.links[name].up))

    def disturbed_links(self) -> list[Disturbed]:
        """Return what was done to virtual MACs that bear VIPs; ``changed_links`` comes first."""
        touched, self._touched = self._touched, set()
        return self.leases.look_at(touched)

    @property
    def _kernel(self) -> Addresses:
        assert self._addresses is not None  # noqa: S101 - narrowing; open() came first
        return self._addresses


def _joined(old: Opened, new: Opened) -> Opened:
    """Return the old sockets with the new ones; new ears take the place of all that there were."""
    for sock in old.answers.values() if new.answers else ():
        sock.close()
    return Opened(wires=old.wires | new.wires, raws=old.raws | new.raws, answers=new.answers or old.answers)


def _vips(groups: Sequence[GroupPlan], interface: str) -> list[IPAddress]:
    return sorted(
        (ip_interface(vip).ip for group in groups if group.interface == interface for vip in group.vips),
        key=lambda vip: (vip.version, int(vip)),
    )


def _spoken(groups: Sequence[GroupPlan], interface: str) -> set[Literal[4, 6]]:
    return {ip_address(path.source).version for group in groups if group.interface == interface for path in group.paths}


def _memberships(group: GroupPlan) -> list[tuple[str, str]]:
    if group.transport != "multicast":
        return []
    return [(group.interface, path.multicast_group) for path in group.paths]


def _is_there(interface: str) -> bool:
    try:
        socket.if_nametoindex(interface)
    except OSError:
        return False
    return True


def _name_of(index: int) -> str | None:
    try:
        return socket.if_indextoname(index)
    except OSError:
        return None
