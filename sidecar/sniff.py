"""``carp-sidecar sniff``: who is master of what on the wire, live.

One line when something is new or changes, or with ``--json`` one object per packet. A packet is explained as ``decode``
does it; what the packets come to is told by ``tracker``. Needs CAP_NET_RAW and changes nothing.
"""

from __future__ import annotations

import contextlib
import json
import math
import select
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from ipaddress import IPv6Address, ip_interface
from typing import TextIO

from sidecar.capture.frames import envelope
from sidecar.capture.vrrp import WireProtocol, wire_protocol
from sidecar.decode import Judge, Record, UsageError, discard, envelope_record, printable, utc, verifier_from_options
from sidecar.ipc.plan import GroupPlan
from sidecar.net import sockets
from sidecar.net.addresses import Addresses, Link
from sidecar.protocol.auth import Authenticator
from sidecar.protocol.packet import Header
from sidecar.protocol.types import CARP_GROUP
from sidecar.tracker import Change, Tracker

EXIT_FAILED, EXIT_USAGE, EXIT_PRIVILEGE = 1, 2, 3
_CARP_GROUP6 = IPv6Address("ff02::12")
_LINKTYPE_ETHERNET = 1
_PACKETS_PER_TURN = 256


class SniffError(Exception):
    """It cannot go on; ``code`` is the exit code, the message one line for people."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class KnownGroups:
    """Verifies the packets of one interface against the groups of the settings; it has no verdict on other vhids."""

    __slots__ = ("_by_vhid",)

    def __init__(self, groups: Iterable[GroupPlan]) -> None:
        self._by_vhid = {
            group.vhid: tuple(
                Authenticator(key=key, vhid=group.vhid, addresses=[ip_interface(vip).ip for vip in group.vips])
                for key in (group.key, *group.accepted_keys)
            )
            for group in groups
        }

    def authentic(self, header: Header) -> bool | None:
        """Tell whether one of the group's passwords made the HMAC of ``header``, None for another's vhid."""
        known = self._by_vhid.get(header.vhid)
        return None if known is None else any(each.verify(header.counter, header.mac) for each in known)


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet of IP protocol 112, heard on ``interface``."""

    interface: str
    protocol: WireProtocol
    record: Record


def run(  # noqa: PLR0913 - the options of the command
    *,
    interfaces: Sequence[str],
    as_json: bool,
    vips: str | None,
    password_file: str | None,
    groups: Sequence[GroupPlan],
    out: TextIO,
    err: TextIO,
) -> int:
    """Print what is heard until KeyboardInterrupt or until nobody reads ``out``; return the exit code.

    ``groups`` are those of the settings, whose packets are verified where ``password_file`` is None.
    """
    try:
        with contextlib.ExitStack() as stack:
            verifier = verifier_from_options(vips=vips, password_file=password_file)
            links = choose(interfaces, _links())
            ears = tuple(
                Ear(link.name, stack.enter_context(_listen(link)), verifier or _known(groups, link.name))
                for link in links
            )
            err.write(f"carp-sidecar sniff: {_introduction(links, verifier, groups)}\n")
            err.flush()
            Sniffer(ears, as_json=as_json, out=out).run()
    except UsageError as error:
        return _complain(err, EXIT_USAGE, str(error))
    except SniffError as error:
        discard(out)
        return _complain(err, error.code, str(error))
    except (BrokenPipeError, KeyboardInterrupt):  # the reader has seen enough, at one end or the other
        discard(out)
    return 0


def choose(names: Sequence[str], links: Sequence[Link]) -> tuple[Link, ...]:
    """Return the links of these names, or by default all Ethernet links that are up. Raises UsageError, SniffError."""
    ethernet = {link.name: link for link in links if link.mac}
    there = ", ".join(printable(name) for name in sorted(ethernet)) or "none"
    for name in names:
        if name not in ethernet:
            raise UsageError(f"-i {printable(name)}: no such Ethernet interface; there are: {there}")
    if names:
        return tuple(ethernet[name] for name in dict.fromkeys(names))
    up = tuple(link for link in ethernet.values() if link.up)
    if not up:
        raise SniffError(EXIT_FAILED, f"no Ethernet interface is up; name one with -i, there are: {there}")
    return up


def _links() -> tuple[Link, ...]:
    with Addresses() as kernel:
        return kernel.links()


def _known(groups: Sequence[GroupPlan], interface: str) -> KnownGroups:
    return KnownGroups(group for group in groups if group.interface == interface)


@contextlib.contextmanager
def _listen(link: Link) -> Iterator[socket.socket]:
    """Hold a sniffing socket open, and the memberships that make snooping switches send us CARP's groups."""
    name = printable(link.name)
    with contextlib.ExitStack() as stack:
        try:
            sock = stack.enter_context(sockets.open_sniffing_socket(link.name))
        except PermissionError:
            remedy = "run as root, or with securityContext.capabilities.add [NET_RAW] in the pod"
            raise SniffError(EXIT_PRIVILEGE, f"missing capability NET_RAW: {remedy}") from None
        except OSError as error:
            raise SniffError(EXIT_FAILED, f"cannot listen on {name}: {error.strerror}") from error
        for group in (CARP_GROUP, _CARP_GROUP6):
            with contextlib.suppress(OSError):  # a kernel or an interface without IPv6
                stack.enter_context(sockets.join(index=link.index, group=group))
        yield sock


def _introduction(links: Sequence[Link], verifier: Judge | None, groups: Sequence[GroupPlan]) -> str:
    names = [link.name for link in links]
    listening = ", ".join(printable(link.name) + ("" if link.up else " (down)") for link in links)
    ours = [f"vhid {group.vhid} on {printable(group.interface)}" for group in groups if group.interface in names]
    if verifier is not None:
        checked = "all of them are verified with --password-file"
    elif ours:
        checked = f"the settings' groups are verified: {', '.join(ours)}"
    else:
        checked = "none is verified; give --vips and --password-file"
    return f"listening for adverts on {listening}; {checked}"


def _complain(err: TextIO, code: int, message: str) -> int:
    err.write(f"carp-sidecar sniff: {message}\n")
    return code


@dataclass(frozen=True, slots=True)
class Ear:
    """One interface that is listened on, and what verifies its packets."""

    interface: str
    sock: socket.socket
    judge: Judge


class Sniffer:
    """The loop: frames in, lines out."""

    def __init__(self, ears: Sequence[Ear], *, as_json: bool, out: TextIO) -> None:
        self._ears = {ear.sock.fileno(): ear for ear in ears}
        self._as_json = as_json
        self._out = out
        self._tracker = Tracker()

    def run(self) -> None:
        """Go on until an exception ends it: BrokenPipeError, KeyboardInterrupt, SniffError."""
        poll = select.poll()
        for descriptor in self._ears:
            poll.register(descriptor, select.POLLIN)
        with contextlib.suppress(OSError):  # an output without a descriptor
            poll.register(self._out.fileno(), 0)  # errors only: whoever read it is gone
        while True:
            for descriptor, _ in poll.poll(self._timeout()):
                if descriptor not in self._ears:
                    raise BrokenPipeError
                self._write(self._hear(self._ears[descriptor]))
            self._write(_text(change) for change in self._tracker.tick(time.monotonic()))

    def _timeout(self) -> int | None:
        deadline = self._tracker.deadline()
        return None if deadline is None else max(0, math.ceil((deadline - time.monotonic()) * 1000))

    def _hear(self, ear: Ear) -> Iterator[str]:
        for _ in range(_PACKETS_PER_TURN):  # a flood on one interface must not silence the others
            try:
                frame = sockets.receive_ethernet(ear.sock)
            except OSError as error:
                name = printable(ear.interface)
                raise SniffError(EXIT_FAILED, f"cannot listen on {name} any more: {error.strerror}") from error
            if frame is None:
                return
            packet = explain(ear.interface, frame, time=time.time_ns(), judge=ear.judge)
            if packet is None:
                continue
            if self._as_json:
                yield to_json(packet)
            else:
                heard = self._tracker.heard(packet.interface, packet.protocol, packet.record, time.monotonic())
                yield from (_text(change) for change in heard)

    def _write(self, lines: Iterable[str]) -> None:
        text = "".join(f"{line}\n" for line in lines)
        if not text:
            return
        try:
            self._out.write(text)
            self._out.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise SniffError(EXIT_FAILED, f"cannot write the output: {error.strerror}") from error


def explain(interface: str, frame: bytes, *, time: int, judge: Judge) -> Packet | None:
    """Return what an Ethernet frame that came at ``time`` (Unix nanoseconds) carries, None if not protocol 112."""
    found = envelope(_LINKTYPE_ETHERNET, frame)
    if found is None:
        return None
    record = envelope_record(found, time=time, verifier=judge)
    return Packet(interface, wire_protocol(found.payload), record)


def to_json(packet: Packet) -> str:
    """Return ``packet`` as one JSON object on one line: the fields of ``decode --json``, interface and protocol."""
    return json.dumps({**asdict(packet.record), "interface": packet.interface, "protocol": packet.protocol})


def _text(change: Change) -> str:
    return f"{utc(time.time_ns())}  {printable(change.interface)}  {change.text}"
