"""A memory cgroup, v1 or v2, in which the kernel's OOM killer is let loose on processes of our choice."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

_ROOMS = (
    ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.oom_control"),
    ("/sys/fs/cgroup", "memory.max", "memory.events"),
)
"""Of version 1 and of version 2: where groups are made, the file of the limit, and where OOM kills are counted."""
_LIMIT = 16 << 20
_HUNGRY = "import time; kept = []\nwhile True: kept.append(b'x' * (1 << 16)); time.sleep(0.0002)"
"""Takes memory slowly enough that it is the limit which is hit, and not the machine."""


@dataclass(frozen=True, slots=True)
class MemoryGroup:
    """A memory cgroup at ``path``."""

    path: Path
    limit: str
    counted: str

    @property
    def kills(self) -> int:
        """How many processes the OOM killer has killed in it."""
        found = re.search(r"^oom_kill (\d+)$", (self.path / self.counted).read_text(), re.M)
        return int(found[1]) if found else 0

    def run_out(self, victims: Collection[int], done: Callable[[], bool], *, within: float) -> None:
        """Use the memory up until ``done``, in a process that the OOM killer takes last. Raises AssertionError."""
        for pid in victims:
            Path(f"/proc/{pid}/oom_score_adj").write_text("1000")  # as the kubelet has it for pods without requests
            (self.path / "cgroup.procs").write_text(str(pid))
        (self.path / self.limit).write_text(str(_LIMIT))
        command = f'echo $$ > {self.path}/cgroup.procs && exec setpriv --pdeathsig KILL -- {sys.executable} -c "$0"'
        hungry = subprocess.Popen(["sh", "-c", command, _HUNGRY])
        try:
            give_up = time.monotonic() + within
            while not done():
                if hungry.poll() is not None:  # taken as well, while the last of the victims was still leaving
                    hungry = subprocess.Popen(["sh", "-c", command, _HUNGRY])
                assert time.monotonic() < give_up, f"nobody was killed within {within:.0f} s"
                time.sleep(0.01)
        finally:
            hungry.kill()
            hungry.wait()


@contextlib.contextmanager
def memory_group() -> Iterator[MemoryGroup | None]:
    """Make one; None where there is no memory controller that we may use."""
    for root, limit, counted in _ROOMS:
        path = Path(root) / f"carptest-{os.getpid()}-{secrets.token_hex(2)}"
        try:
            path.mkdir()
        except OSError:
            continue
        try:
            if (path / limit).exists():
                yield MemoryGroup(path, limit, counted)
                return
        finally:
            _remove(path)
    yield None


def _remove(path: Path) -> None:
    for _ in range(100):
        with contextlib.suppress(OSError):
            path.rmdir()
            return
        time.sleep(0.1)  # those that were killed are still leaving
