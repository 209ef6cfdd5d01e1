"""A LAN on this machine: a bridge, nodes and a client, each in a network namespace of its own, cabled by veth pairs.

It needs CAP_SYS_ADMIN and CAP_NET_ADMIN (root, or root of a user namespace), iproute2 and util-linux. Nothing leaves
it: no namespace has a way to another network. ``Lan`` removes what it made, and what a killed earlier one left behind.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import secrets
import signal
import socket
import struct
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from sidecar.demo.sniffer import record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

_T = TypeVar("_T")

NETNS = Path("/run/netns")
BRIDGE = "br0"
INTERFACE = "eth0"
SUBNET = "10.77.0"
CLIENT_NUMBER = 200

_CLONE_NEWNET = 0x40000000
_LINKS_DEADLINE = 10.0  # seconds
_ETH_P_ALL = 0x0003
_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, _PACKET_STATISTICS, _PACKET_MR_PROMISC = 263, 1, 6, 1
_SO_RCVBUFFORCE = 33
_TAP_BUFFER = 8 << 20  # bytes
_IPV6 = Path("/proc/sys/net/ipv6")


class LanError(RuntimeError):
    """The LAN could not be built or changed; the message says which step failed and why."""


@dataclass(frozen=True, slots=True)
class Node:
    """A host on the LAN, in the namespace ``netns``: eth0 with ``address``/24, ``address6``/64 and ``mac``.

    ``ttl`` is what its packets start with (IPv6: hop limit): each node's own, so that an echo reply tells who sent it.
    """

    name: str
    netns: str
    address: str
    address6: str
    mac: str
    ttl: int

    def command(self, arguments: Sequence[str]) -> list[str]:
        """Return the command that runs ``arguments`` on this node."""
        return ["nsenter", f"--net={NETNS / self.netns}", "--", *arguments]

    def run(self, arguments: Sequence[str], *, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command on this node to its end, its output as text. Raises CalledProcessError where ``check``."""
        return subprocess.run(self.command(arguments), check=check, capture_output=True, text=True)

    def popen(self, arguments: Sequence[str], **options: Any) -> subprocess.Popen[Any]:  # noqa: ANN401
        """Start a command on this node; ``options`` are Popen's. Its pid is the command's own: nsenter execs it."""
        return subprocess.Popen(self.command(arguments), **options)

    def open_socket(self, factory: Callable[[], socket.socket]) -> socket.socket:
        """Return the socket that ``factory`` makes on this node, for use by this process."""
        return inside(self.netns, factory)


class Lan:
    """``nodes`` hosts and a client on one bridge, there from ``with`` to its end. Raises LanError where that fails.

    The nodes have 10.77.0.1, .2 ... and 02:00:00:00:00:01 ...; the client is .200; .128 to .191 belong to the prober
    and no one has .100 to .127: take VIPs from there. On leaving, every process in these namespaces is killed.
    """

    def __init__(self, *, nodes: int = 3, prefix: str = "carp") -> None:
        self._prefix = prefix
        self._count = nodes
        self._cleanup = contextlib.ExitStack()
        self._bridge = ""
        self.nodes: tuple[Node, ...] = ()
        self.client: Node

    def __enter__(self) -> Self:
        sweep(self._prefix)
        # The pid and its start time, so that a later run can tell whether we are still there.
        name = f"{self._prefix}-{os.getpid()}-{_start_time(os.getpid())}-{secrets.token_hex(2)}"
        self._bridge = f"{name}-bridge"
        self.nodes = tuple(_host(name, f"node-{number}", number) for number in range(1, self._count + 1))
        self.client = _host(name, "client", CLIENT_NUMBER)
        with contextlib.ExitStack() as stack:
            for netns in (self._bridge, *(node.netns for node in self._hosts)):
                stack.callback(_remove, netns)
                _create(netns)
            self._cable()
            self._cleanup = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    @property
    def _hosts(self) -> tuple[Node, ...]:
        return (*self.nodes, self.client)

    def node(self, name: str) -> Node:
        """Return the node of that name. Raises KeyError."""
        return {node.name: node for node in self._hosts}[name]

    def cut(self, node: Node) -> None:
        """Take a node off the LAN; its carrier stays, so that only silence tells it."""
        _ip(self._bridge, f"link set {_port(node)} nomaster")

    def heal(self, node: Node) -> None:
        """Undo ``cut``."""
        _ip(self._bridge, f"link set {_port(node)} master {BRIDGE}")

    def link_down(self, node: Node) -> None:
        """Pull the cable: the node's eth0 loses its carrier."""
        _ip(self._bridge, f"link set {_port(node)} down")

    def link_up(self, node: Node) -> None:
        """Undo ``link_down`` and return once the carrier is back."""
        _ip(self._bridge, f"link set {_port(node)} up")
        _wait_until_up(node.netns, INTERFACE)

    def remove_interface(self, node: Node) -> None:
        """Delete the node's eth0, as an operator or a driver may."""
        _ip(node.netns, f"link delete {INTERFACE}")

    def make_interface(self, node: Node) -> None:
        """Undo ``remove_interface``: another eth0 with the same MAC and addresses. Returns once it has a carrier."""
        _ip(self._bridge, *_cable_steps(node))
        _ip(node.netns, *_address_steps(node))
        _wait_until_up(node.netns, INTERFACE)

    def open_socket(self, node: Node, factory: Callable[[], socket.socket]) -> socket.socket:
        """Return the socket that ``factory`` makes on ``node``, for use by this process."""
        return node.open_socket(factory)

    @contextlib.contextmanager
    def capture(self, path: Path) -> Iterator[None]:
        """Write every frame that crosses the bridge while inside to ``path`` (pcap), each of them once.

        Raises LanError on leaving where the machine was too busy to see them all.
        """
        with inside(self._bridge, _tap) as tap:
            with record(tap, path):
                yield
            _, missed = struct.unpack("II", tap.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
        if missed:
            raise LanError(f"the capture {path} lacks {missed} frames: the machine was too busy")

    def _cable(self) -> None:
        for host in self._hosts:
            inside(host.netns, lambda host=host: _tune_host(host))  # type: ignore[misc]
        inside(self._bridge, _tune_bridge)
        # No snooping and no delay: a frame gets through as soon as the link is up.
        steps = [
            f"link add {BRIDGE} type bridge mcast_snooping 0 stp_state 0 forward_delay 0",
            f"link set {BRIDGE} up",
        ]
        for host in self._hosts:
            steps += _cable_steps(host)
        _ip(self._bridge, *steps)
        for host in self._hosts:
            _ip(host.netns, "link set lo up", *_address_steps(host))
        for host in self._hosts:
            _wait_until_up(host.netns, INTERFACE)
        _wait_until_up(self._bridge, BRIDGE)


def inside(netns: str, action: Callable[[], _T]) -> _T:
    """Return what ``action`` returns, run in a thread of its own inside a network namespace. Raises what it raises.

    The thread ends with it, so that no other code of this process is ever in that namespace.
    """

    def enter() -> _T:
        _setns(NETNS / netns)
        return action()

    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(enter).result()


def sweep(prefix: str = "carp") -> None:
    """Remove the namespaces of LANs of that prefix whose process is gone, and end the processes left in them."""
    ours = re.compile(rf"{re.escape(prefix)}-(\d+)-(\d+)-[0-9a-f]{{4}}-")
    for path in sorted(NETNS.glob(f"{prefix}-*")):
        match = ours.match(path.name)
        if match and _start_time(int(match[1])) != int(match[2]):
            _remove(path.name)


def _setns(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        libc = ctypes.CDLL(None, use_errno=True)  # os.setns came with Python 3.12
        if libc.setns(descriptor, _CLONE_NEWNET) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(path))
    finally:
        os.close(descriptor)


def _host(lan: str, name: str, number: int) -> Node:
    return Node(
        name=name,
        netns=f"{lan}-{name}",
        address=f"{SUBNET}.{number}",
        address6=f"fd77::{number}",
        mac=f"02:00:00:00:00:{number:02x}",
        ttl=60 + number if number != CLIENT_NUMBER else 64,
    )


def _port(node: Node) -> str:
    return f"to-{node.name}"


def _cable_steps(node: Node) -> list[str]:
    port = _port(node)
    return [
        f"link add {port} type veth peer name {INTERFACE} address {node.mac} netns {node.netns}",
        f"link set {port} master {BRIDGE} up",
    ]


def _address_steps(node: Node) -> list[str]:
    steps = [f"link set {INTERFACE} up", f"addr add {node.address}/24 dev {INTERFACE}"]
    if _IPV6.exists():
        steps.append(f"addr add {node.address6}/64 dev {INTERFACE} nodad")
    return steps


def _create(netns: str) -> None:
    """Make a named namespace. By unshare, since ``ip netns add`` wants to go back and in a user namespace may not."""
    path = NETNS / netns
    try:
        NETNS.mkdir(exist_ok=True)
        path.touch()
    except OSError as error:
        raise LanError(f"can't make {path}: {error.strerror} (it takes root)") from error
    _execute(["unshare", f"--net={path}", "true"])


def _remove(netns: str) -> None:
    listed = subprocess.run(["ip", "netns", "pids", netns], check=False, capture_output=True, text=True)
    for pid in listed.stdout.split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    subprocess.run(["ip", "netns", "delete", netns], check=False, capture_output=True)


def _start_time(pid: int) -> int:
    """Return when a process started, in clock ticks since boot (proc(5)), or -1 where there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return -1
    return int(stat.rpartition(")")[2].split()[19])


def _tune_host(host: Node) -> None:
    Path("/proc/sys/net/ipv4/ip_default_ttl").write_text(f"{host.ttl}\n")
    if _IPV6.exists():
        for scope in ("all", "default"):
            (_IPV6 / "conf" / scope / "accept_dad").write_text("0\n")  # else an address is tentative for a second
            (_IPV6 / "conf" / scope / "hop_limit").write_text(f"{host.ttl}\n")


def _tune_bridge() -> None:
    if _IPV6.exists():
        for scope in ("all", "default"):
            (_IPV6 / "conf" / scope / "disable_ipv6").write_text("1\n")


def _tap() -> socket.socket:
    tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    with contextlib.suppress(PermissionError):  # which root of a user namespace may not
        tap.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _TAP_BUFFER)
    tap.bind((BRIDGE, _ETH_P_ALL))
    # A promiscuous bridge device is given a copy of every frame that it forwards.
    request = struct.pack("iHH8s", socket.if_nametoindex(BRIDGE), _PACKET_MR_PROMISC, 0, b"")
    tap.setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, request)
    return tap


def _wait_until_up(netns: str, interface: str) -> None:
    deadline = time.monotonic() + _LINKS_DEADLINE
    while json.loads(_execute(["ip", "-n", netns, "-j", "link", "show", interface]))[0]["operstate"] != "UP":
        if time.monotonic() > deadline:
            raise LanError(f"{interface} in namespace {netns} isn't up after {_LINKS_DEADLINE:.0f} s")
        time.sleep(0.01)


def _ip(netns: str, *steps: str) -> None:
    _execute(["ip", "-n", netns, "-batch", "-"], steps)


def _execute(command: Sequence[str], lines: Iterable[str] = ()) -> str:
    text = "".join(f"{line}\n" for line in lines)
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, input=text)
    except FileNotFoundError as error:
        raise LanError(f"{command[0]} isn't installed: install iproute2 and util-linux") from error
    if done.returncode:
        raise LanError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
