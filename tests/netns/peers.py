"""Debian's real ucarp as a peer, and patience."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from sidecar.control import ControlError
from sidecar.demo.lan import Node
from sidecar.demo.node import SidecarNode
from sidecar.ipc.messages import GroupStatus

PATIENCE = 90.0
"""Seconds until a condition that must come true counts as failed: far above what it takes, for busy machines."""

_BACKUP = "Switching to state: BACKUP"
_IN_ORDER = (
    "Switching to state",
    "Spawning",
    "Preferred master advertised",
    "Non-preferred master advertising",
    "Putting MASTER",
    "exiting: pfds",  # the interface was set down
)
"""What ucarp warns of where all is well."""


def until(condition: Callable[[], object], what: str, *, every: float = 0.02) -> None:
    """Wait for a condition, asked each ``every`` seconds. Raises AssertionError that says what did not happen."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {PATIENCE:.0f} s: {what}")
        time.sleep(every)


class Ucarp:
    """One ucarp process on a node; its up and down scripts bind and release the VIP as ucarp's README has it.

    ``source`` is its --srcip, the node's address by default; without ``shutdown`` (-z) a signal ends it on the spot.
    """

    def __init__(
        self,
        node: Node,
        directory: Path,
        *,
        vip: str,
        vhid: int,
        password: str,
        options: str = "",
        source: str = "",
        shutdown: bool = True,
    ) -> None:
        self.node = node
        self.vip = vip
        self.source = source or node.address
        name = f"{node.name}-{vhid}"
        self._log = directory / f"ucarp-{name}.log"
        up, down, secret = (directory / f"{name}-{what}" for what in ("up", "down", "password"))
        # The scripts' first argument is the interface, the second the VIP.
        up.write_text('#!/bin/sh\nexec ip addr add "$2"/32 dev "$1"\n')
        down.write_text('#!/bin/sh\nip addr del "$2"/32 dev "$1" 2>/dev/null\nexit 0\n')
        for script in (up, down):
            script.chmod(0o755)
        secret.write_text(password + "\n")
        self._command = [
            "ucarp", "--interface=eth0", f"--srcip={self.source}", f"--vhid={vhid}", f"--passfile={secret}",
            f"--addr={vip}", f"--upscript={up}", f"--downscript={down}", *(["--shutdown"] if shutdown else []),
            *options.split(),
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()

    def start(self, *options: str) -> None:
        """Start it, again if it has ended, and return once it is BACKUP; ``options`` stay from now on."""
        self._command += options
        before = self.log.count(_BACKUP)
        with self._log.open("ab") as log:
            environment = {**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}
            self._process = self.node.popen(self._command, stdout=log, stderr=log, env=environment)
        until(lambda: self.log.count(_BACKUP) > before, "ucarp starts")

    @property
    def log(self) -> str:
        """What it has logged so far: its warnings and errors; the rest is buffered until it ends."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    @property
    def complaints(self) -> list[str]:
        """The warnings and errors in its log that are not about its own changes of state."""
        lines = [line for line in self.log.splitlines() if "[WARNING]" in line or "[ERROR]" in line]
        return [line for line in lines if not any(phrase in line for phrase in _IN_ORDER)]

    @property
    def is_master(self) -> bool:
        """Whether its last word on its state was master."""
        return "Switching to state: MASTER" in self.log.rpartition(_BACKUP)[2]

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """SIGKILL; the VIP that ucarp leaves behind is taken off, as whoever repairs such a node must."""
        if self.running:
            self.end(signal.SIGKILL)
        self.repair()

    def repair(self) -> None:
        """Take off the VIP that a killed ucarp has left on its node."""
        self.node.run(["ip", "addr", "del", f"{self.vip}/32", "dev", "eth0"], check=False)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to it. Raises RuntimeError if it does not run."""
        if self._process is None or not self.running:
            raise RuntimeError(f"the ucarp of {self.node.name} does not run")
        self._process.send_signal(number)

    def end(self, number: signal.Signals) -> int:
        """Send a signal that ends it; return its exit code."""
        self.send(number)
        return self.wait()

    def wait(self) -> int:
        """Wait for its end; return its exit code. Raises subprocess.TimeoutExpired."""
        if self._process is None:
            raise RuntimeError(f"the ucarp of {self.node.name} was never started")
        return self._process.wait(PATIENCE)


class Keepalived:
    """One keepalived process on a node: a VRRP master of ``vips``, as another team may run it on the same LAN."""

    def __init__(
        self, node: Node, directory: Path, *, version: int, vrid: int, vips: Sequence[str], priority: int = 200
    ) -> None:
        self.node = node
        self._log = directory / f"keepalived-{node.name}.log"
        self._config = directory / f"keepalived-{node.name}.conf"
        self._pids = [directory / f"keepalived-{node.name}-{which}.pid" for which in ("parent", "vrrp")]
        self._config.write_text(
            f"global_defs {{\n vrrp_version {version}\n}}\n"
            f"vrrp_instance foreign {{\n state BACKUP\n interface eth0\n priority {priority}\n"
            f" advert_int 1\n virtual_router_id {vrid}\n virtual_ipaddress {{\n"
            + "".join(f"  {vip}/32\n" for vip in vips)
            + " }\n}\n"
        )
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        parent, vrrp = self._pids
        command = ["keepalived", "--dont-fork", "--log-console", "--vrrp", f"--use-file={self._config}"]
        environment = {**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}
        with self._log.open("wb") as log:
            self._process = self.node.popen(
                [*command, f"--pid={parent}", f"--vrrp_pid={vrrp}"], stdout=log, stderr=log, env=environment
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(PATIENCE)

    @property
    def log(self) -> str:
        """What it has logged so far."""
        return self._log.read_text(errors="replace")

    @property
    def is_master(self) -> bool:
        """Whether it says that it entered the master's state, last of all."""
        return "Entering MASTER STATE" in self.log.rpartition("Entering BACKUP STATE")[2]

    @property
    def transitions(self) -> int:
        """How often it has become master."""
        return self.log.count("Entering MASTER STATE")


def status(sidecar: SidecarNode) -> GroupStatus | None:
    """How the sidecar's first group stands, or None while it does not answer."""
    with contextlib.suppress(ControlError):
        return sidecar.group()
    return None


def role(sidecar: SidecarNode) -> str | None:
    """The role of the sidecar's first group, or None while it does not answer."""
    found = status(sidecar)
    return None if found is None else found.role
