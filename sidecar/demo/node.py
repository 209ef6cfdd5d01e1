"""One real sidecar on a node of the LAN: started with ``CARP_*`` settings, asked, stopped, killed as a whole."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Self

from sidecar.control import ask_status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.demo.lan import Node
    from sidecar.ipc.messages import GroupStatus, StatusReply

_STOPS_WITHIN = 20.0
_GROUP_DEFAULTS = {
    "CARP_INTERFACE": "eth0",
    "CARP_KUBERNETES": "off",
    "CARP_HTTP_LISTEN": "off",
    "CARP_LOG_FORMAT": "text",
}
_AS_IN_A_POD = """\
mount -t tmpfs none /run
mkdir -p /var/run/secrets/kubernetes.io
ln -s "$0" /var/run/secrets/kubernetes.io/serviceaccount
exec "$@"
"""
"""In a mount namespace of its own: /run is another, /var/run leads there."""


class SidecarNode:
    """The sidecar of ``node``. ``settings`` are its environment; runtime directory and log are kept in ``directory``.

    ``python`` is the interpreter of all its processes. ``account`` is a folder with ``token`` and ``ca.crt``, which it
    then finds where the kubelet mounts a pod's service account. It may be started again after it ended. Leaving it as a
    context manager kills what still runs.
    """

    def __init__(
        self,
        node: Node,
        directory: Path,
        settings: Mapping[str, str],
        *,
        python: str = sys.executable,
        account: Path | None = None,
    ) -> None:
        self.node = node
        self._command = [python, "-P", "-m", "sidecar", "run"]
        if account is not None:
            self._command = ["unshare", "--mount", "sh", "-e", "-c", _AS_IN_A_POD, str(account), *self._command]
        self.runtime_dir = directory / f"run-{node.name}"
        self._log = directory / f"{node.name}.log"
        self._environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            **_GROUP_DEFAULTS,
            "CARP_RUNTIME_DIR": str(self.runtime_dir),
            "CARP_CONFIG_FILE": "",
            "NODE_NAME": node.name,
            **settings,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill_all()

    def start(self, **settings: str) -> None:
        """Start it; ``settings`` change its environment from now on."""
        self._environment |= settings
        with self._log.open("ab") as log:
            self._process = self.node.popen(
                self._command, env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    @property
    def pid(self) -> int:
        """The parent's process id. Raises RuntimeError if it was never started."""
        if self._process is None:
            raise RuntimeError(f"the sidecar of {self.node.name} was never started")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the parent runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """All that it has logged."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def status(self) -> StatusReply:
        """Ask it how it stands. Raises ControlError."""
        return ask_status(self.runtime_dir)

    def group(self) -> GroupStatus:
        """Ask it how its first group stands. Raises ControlError."""
        return self.status().groups[0]

    def pids(self) -> dict[str, int]:
        """Return the pids of its processes by name: parent, engine and, where the mirror is on, agent."""
        if not self.running:
            return {}
        return {"parent": self.pid} | {_role(pid): pid for pid in _children(self.pid)}

    def kill_all(self) -> None:
        """SIGKILL every process of it, before one can react to another's end."""
        if self._process is None or self._process.poll() is not None:
            return
        for pid in [self.pid, *_children(self.pid)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def terminate(self) -> int:
        """SIGTERM, as the kubelet does; return the exit code. Raises subprocess.TimeoutExpired."""
        os.kill(self.pid, signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        """Wait for its end; return the exit code. Raises subprocess.TimeoutExpired."""
        if self._process is None:
            raise RuntimeError(f"the sidecar of {self.node.name} was never started")
        return self._process.wait(_STOPS_WITHIN)


def _children(parent: int) -> list[int]:
    try:
        return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def _role(pid: int) -> str:
    """Return which process of the sidecar it is, from its command line: python -P -m sidecar NAME."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return "gone"
    return words[4].decode() if len(words) > 4 else "starting"
