"""What running sidecars cost: two nodes in network namespaces, one master of all groups, the other their backup."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from bench import pod
from bench.processes import cpu_seconds, memory
from sidecar.control import ControlError
from sidecar.demo.lan import Lan, Node
from sidecar.demo.node import SidecarNode
from sidecar.ipc.messages import LagStatus

_READY_WITHIN = 90.0
ANNOUNCES_FOR = 5.0
"""Seconds in which a new master repeats its announcements; they are not what it costs in the long run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What a node carries: ``groups`` on each of so many interfaces, and how often a master advertises."""

    groups: int
    interfaces: int = 1
    advbase: int = 1
    advskew: int = 0

    @property
    def every(self) -> int:
        """All groups of a node."""
        return self.groups * self.interfaces

    @property
    def rate(self) -> float:
        """Adverts of one group in a second."""
        return 1 / (self.advbase + self.advskew / 256)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one load cost. CPU in % of one core, by process; memory in MB, of a master alone on its machine."""

    load: Load
    ready: float
    """Seconds from the start until the node was master of all groups."""
    status: float
    """Seconds until the status of all groups was there."""
    memory: dict[str, float]
    master: dict[str, float]
    backup: dict[str, float]
    adverts: float
    """How many adverts the master sent in a second."""
    lag: LagStatus
    """Of the master's loop."""


def measure(load: Load, *, seconds: float, settle: float = ANNOUNCES_FOR) -> Result:
    """Run a load, let the master ``settle``, and look at it for ``seconds``. Raises LanError, TimeoutError."""
    with _network(load) as (lan, directory), ExitStack() as stack:
        first, second = (_sidecar(node, directory, load) for node in lan.nodes)
        begun = time.monotonic()
        stack.enter_context(first)
        _until_all_are(first, "master", load.every)
        ready = time.monotonic() - begun
        time.sleep(settle)
        alone = memory(first.pids())
        stack.enter_context(second)
        _until_all_are(second, "backup", load.every)
        time.sleep(2 * (load.advbase + load.advskew / 256))
        sent, used = _adverts(first), [_used(first), _used(second)]
        begun = time.monotonic()
        time.sleep(seconds)
        passed = time.monotonic() - begun
        master, backup = (
            {name: (now - before[name]) / passed * 100 for name, now in _used(node).items()}
            for node, before in zip((first, second), used, strict=True)
        )
        sent = _adverts(first) - sent
        begun = time.monotonic()
        told = first.status()
        return Result(
            load=load,
            ready=ready,
            status=time.monotonic() - begun,
            memory=alone,
            master=master,
            backup=backup,
            adverts=sent / passed,
            lag=told.lag,
        )


def settings_of(load: Load) -> str:
    """Return the settings file (YAML) of both nodes."""
    return yaml.safe_dump(
        {
            "advbase": load.advbase,
            "groups": [
                {
                    "name": f"group-{interface}-{vhid}",
                    "interface": _name(interface),
                    "vhid": vhid,
                    "vips": [f"10.{80 + interface}.1.{vhid}"],
                }
                for interface in range(load.interfaces)
                for vhid in range(1, load.groups + 1)
            ],
        },
        sort_keys=False,
    )


@contextmanager
def _network(load: Load) -> Iterator[tuple[Lan, Path]]:
    """Two hosts with a cable between them for each interface, and a directory with their settings."""
    with tempfile.TemporaryDirectory() as name, Lan(nodes=2, prefix="bench") as lan:
        directory = Path(name)
        (directory / "config.yaml").write_text(settings_of(load))
        first, second = lan.nodes
        for number in range(load.interfaces):
            nic = _name(number)
            first.run(["ip", "link", "add", nic, "type", "veth", "peer", "name", nic, "netns", second.netns])
            for host, node in enumerate(lan.nodes, 1):
                node.run(["ip", "address", "add", f"10.{80 + number}.0.{host}/16", "dev", nic])
                node.run(["ip", "link", "set", nic, "up"])
        yield lan, directory


def _name(interface: int) -> str:
    return f"nic{interface}"


def _sidecar(node: Node, directory: Path, load: Load) -> SidecarNode:
    """Return a node's sidecar, as in a pod but without an API server: all three processes run."""
    backup = node.name != "node-1"
    settings = {
        "CARP_CONFIG_FILE": str(directory / "config.yaml"),
        "CARP_INTERFACE": "",
        "CARP_PASSWORD": "benchmark",
        "CARP_ADVSKEW": str(load.advskew + 1 if backup else load.advskew),
        "CARP_LOG_LEVEL": "warning",
        **pod.SETTINGS,
    }
    return SidecarNode(node, directory, settings, account=pod.account(directory))


def _until_all_are(node: SidecarNode, role: str, count: int) -> None:
    deadline = time.monotonic() + _READY_WITHIN
    while time.monotonic() < deadline:
        try:
            if sum(group.role == role for group in node.status().groups) == count:
                return
        except ControlError:
            if not node.running:
                break
        time.sleep(0.1)
    raise TimeoutError(f"{node.node.name} isn't {role} of {count} groups; it says:\n{node.log[-2000:]}")


def _adverts(node: SidecarNode) -> int:
    return sum(group.adverts_sent for group in node.status().groups)


def _used(node: SidecarNode) -> dict[str, float]:
    return {name: cpu_seconds(pid) for name, pid in node.pids().items()}
