"""One node of each product: how it is set up, and how it is stopped, killed and frozen."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

import yaml

from bench import pod
from bench.failover.setups import Mac, Product, Setup
from sidecar.control import ControlError
from sidecar.demo.lan import INTERFACE, Node
from sidecar.demo.node import SidecarNode

VIPS = {4: "10.77.0.100", 6: "fd77::100"}
VHIDS = {4: 42, 6: 43}
_PATH = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
_STOPS_WITHIN = 20.0


class Contender(Protocol):
    """A product on a node."""

    node: Node

    def start(self) -> None:
        """Start it; it can have run before."""

    def listens(self) -> bool:
        """Whether it is in the state of a backup, or beyond."""

    def masters(self) -> int | None:
        """How often it has become master of any of its groups since it was made; None where it can't be asked."""

    def pids(self) -> dict[str, int]:
        """Its processes by name."""

    def stop(self) -> None:
        """SIGTERM, as a service manager or the kubelet does; return at once."""

    def end(self) -> None:
        """SIGKILL whatever still runs of it, and wait until it is gone."""

    @property
    def log(self) -> str:
        """What it has said."""


def make(setup: Setup, node: Node, directory: Path, *, preferred: bool, mirror: bool = False) -> Contender:
    """Return a node of a setup; ``mirror``: ours also with the agent, as in a pod but without an API server."""
    values = dict(setup.speed.first if preferred else setup.speed.other)
    match setup.product:
        case Product.OURS:
            return Ours(setup, node, directory, values, mirror=mirror)
        case Product.KEEPALIVED:
            return Keepalived(setup, node, directory, values)
        case Product.UCARP:
            return Ucarp(node, directory, values["options"])


def kill(contender: Contender) -> None:
    """SIGKILL all its processes; they are stopped first, so that none can react to another's end."""
    pids = contender.pids().values()
    for number in (signal.SIGSTOP, signal.SIGKILL):
        _signal(pids, number)


@contextlib.contextmanager
def frozen(contender: Contender) -> Iterator[None]:
    """SIGSTOP to all of its processes."""
    pids = contender.pids().values()
    _signal(pids, signal.SIGSTOP)
    try:
        yield
    finally:
        _signal(pids, signal.SIGCONT)


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


class Ours:
    """This sidecar."""

    def __init__(
        self, setup: Setup, node: Node, directory: Path, values: dict[str, str], *, mirror: bool = False
    ) -> None:
        config = directory / f"ours-{node.name}.yaml"
        groups = [
            {
                "name": f"ipv{version}",
                "vhid": VHIDS[version],
                "vips": [VIPS[version]],
                "address_family": f"ipv{version}",
            }
            for version in setup.versions
        ]
        config.write_text(yaml.safe_dump({"groups": groups}))
        settings = {"CARP_CONFIG_FILE": str(config), "CARP_PASSWORD": "benchmark", "CARP_PREEMPT": "true", **values}
        if setup.mac is Mac.VIRTUAL:
            settings["CARP_MAC"] = "virtual"
        if mirror:
            settings |= pod.SETTINGS
        self.node = node
        self._sidecar = SidecarNode(node, directory, settings, account=pod.account(directory) if mirror else None)

    def start(self) -> None:
        self._sidecar.start()

    def listens(self) -> bool:
        with contextlib.suppress(ControlError):
            return all(group.role != "init" for group in self._sidecar.status().groups)
        return False

    def masters(self) -> int | None:
        with contextlib.suppress(ControlError):
            return sum((group.transitions + (group.role == "master")) // 2 for group in self._sidecar.status().groups)
        return None

    def pids(self) -> dict[str, int]:
        return self._sidecar.pids()

    def stop(self) -> None:
        os.kill(self._sidecar.pid, signal.SIGTERM)

    def end(self) -> None:
        self._sidecar.kill_all()

    @property
    def log(self) -> str:
        return self._sidecar.log


class _Daemon:
    """A program of others, with its output in a file."""

    def __init__(self, node: Node, log: Path) -> None:
        self.node = node
        self._path = log
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def _run(self, name: str, command: list[str]) -> None:
        with self._path.open("ab") as log:
            self._processes[name] = self.node.popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={"PATH": _PATH}
            )

    @property
    def log(self) -> str:
        return self._path.read_text(errors="replace") if self._path.exists() else ""

    def pids(self) -> dict[str, int]:
        found = {}
        for name, process in self._processes.items():
            if process.poll() is None:
                found[name] = process.pid
                children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
                found |= {f"{name}'s child {number}": int(pid) for number, pid in enumerate(children, 1)}
        return found

    def stop(self) -> None:
        for process in self._processes.values():
            if process.poll() is None:
                process.terminate()

    def end(self) -> None:
        for pid in self.pids().values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for process in self._processes.values():
            process.wait()


class Keepalived(_Daemon):
    """keepalived's VRRP: an instance for each IP version."""

    def __init__(self, setup: Setup, node: Node, directory: Path, values: dict[str, str]) -> None:
        super().__init__(node, directory / f"keepalived-{node.name}.log")
        self._versions = setup.versions
        config = directory / f"keepalived-{node.name}.conf"
        pids = [directory / f"keepalived-{node.name}-{which}.pid" for which in ("parent", "vrrp")]
        config.write_text(
            f"global_defs {{\n vrrp_version {values['version']}\n}}\n"
            + "".join(_instance(version, setup.mac, values) for version in setup.versions)
        )
        self._command = ["keepalived", "--dont-fork", "--log-console", "--vrrp", f"--use-file={config}"]
        self._command += [f"--pid={pids[0]}", f"--vrrp_pid={pids[1]}"]

    def start(self) -> None:
        self._run("keepalived", self._command)

    def listens(self) -> bool:
        return self.log.count("Entering BACKUP STATE") >= len(self._versions)

    def masters(self) -> int | None:
        return self.log.count("Entering MASTER STATE")


def _instance(version: int, mac: Mac, values: dict[str, str]) -> str:
    vmac = f" use_vmac vrrp{version}\n" if mac is Mac.VIRTUAL else ""
    length = 32 if version == 4 else 128
    return (
        f"vrrp_instance ipv{version} {{\n state BACKUP\n interface {INTERFACE}\n virtual_router_id {VHIDS[version]}\n"
        f" priority {values['priority']}\n advert_int {values['advert_int']}\n{vmac}"
        f" virtual_ipaddress {{\n  {VIPS[version]}/{length}\n }}\n}}\n"
    )


class Ucarp(_Daemon):
    """ucarp, with the scripts that its README has."""

    def __init__(self, node: Node, directory: Path, options: str) -> None:
        super().__init__(node, directory / f"ucarp-{node.name}.log")
        up, down, secret = (directory / f"ucarp-{node.name}-{what}" for what in ("up", "down", "password"))
        up.write_text('#!/bin/sh\nexec ip addr add "$2"/32 dev "$1"\n')
        down.write_text('#!/bin/sh\nip addr del "$2"/32 dev "$1" 2>/dev/null\nexit 0\n')
        for script in (up, down):
            script.chmod(0o755)
        secret.write_text("benchmark\n")
        self._command = [
            "ucarp", f"--interface={INTERFACE}", f"--srcip={node.address}", f"--vhid={VHIDS[4]}",
            f"--passfile={secret}", f"--addr={VIPS[4]}", f"--upscript={up}", f"--downscript={down}", "--shutdown",
            *options.split(),
        ]  # fmt: skip

    def start(self) -> None:
        self._run("ucarp", self._command)

    def listens(self) -> bool:
        return "Switching to state: BACKUP" in self.log

    def masters(self) -> int | None:
        return self.log.count("Switching to state: MASTER")
