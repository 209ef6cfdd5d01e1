"""Debian's real ucarp as a peer, and patience."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from sidecar.control import ControlError
from sidecar.demo.lan import Node
from sidecar.demo.node import SidecarNode
from sidecar.ipc.messages import GroupStatus

PATIENCE = 40.0
"""Seconds until a condition that must come true counts as failed: far above what it takes, for busy machines."""


def until(condition: Callable[[], object], what: str) -> None:
    """Wait for a condition. Raises AssertionError that says what did not happen."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {PATIENCE:.0f} s: {what}")
        time.sleep(0.02)


class Ucarp:
    """One ucarp process on a node; its up and down scripts bind and release the VIP as ucarp's README has it."""

    def __init__(self, node: Node, directory: Path, *, vip: str, vhid: int, password: str, options: str = "") -> None:
        self.node = node
        self.vip = vip
        self._log = directory / f"ucarp-{node.name}.log"
        up, down, secret = (directory / f"{node.name}-{name}" for name in ("up", "down", "password"))
        # The scripts' first argument is the interface, the second the VIP.
        up.write_text('#!/bin/sh\nexec ip addr add "$2"/32 dev "$1"\n')
        down.write_text('#!/bin/sh\nip addr del "$2"/32 dev "$1" 2>/dev/null\nexit 0\n')
        for script in (up, down):
            script.chmod(0o755)
        secret.write_text(password + "\n")
        self._command = [
            "ucarp", "--interface=eth0", f"--srcip={node.address}", f"--vhid={vhid}", f"--passfile={secret}",
            f"--addr={vip}", f"--upscript={up}", f"--downscript={down}", "--shutdown", *options.split(),
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self._log.open("ab") as log:
            environment = {**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}
            self._process = self.node.popen(self._command, stdout=log, stderr=log, env=environment)
        until(lambda: "Switching to state: BACKUP" in self.log, "ucarp starts")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def log(self) -> str:
        """What it has logged so far."""
        return self._log.read_text(errors="replace")

    @property
    def is_master(self) -> bool:
        """Whether its last word on its state was master."""
        return "Switching to state: MASTER" in self.log.rpartition("Switching to state: BACKUP")[2]

    def kill(self) -> None:
        """SIGKILL; the VIP that ucarp leaves behind is taken off, as whoever repairs such a node must."""
        self._signal(signal.SIGKILL)
        self.node.run(["ip", "addr", "del", f"{self.vip}/32", "dev", "eth0"], check=False)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)
            self._process.wait()


def status(sidecar: SidecarNode) -> GroupStatus | None:
    """How the sidecar's first group stands, or None while it does not answer."""
    with contextlib.suppress(ControlError):
        return sidecar.group()
    return None


def role(sidecar: SidecarNode) -> str | None:
    """The role of the sidecar's first group, or None while it does not answer."""
    found = status(sidecar)
    return None if found is None else found.role
