"""What processes cost, from /proc (proc(5)): the time that they ran, and the memory that is theirs."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

_MAPPING = re.compile(r"[0-9a-f]+-[0-9a-f]+ \S+ (?P<offset>[0-9a-f]+) (?P<device>\S+) (?P<inode>\d+)\b")

_FilePart = tuple[str, str, str]
"""Device, inode and offset of a mapping."""


@dataclass(slots=True)
class _Resident:
    anonymous: int = 0
    files: Counter[_FilePart] = field(default_factory=Counter)


def cpu_seconds(pid: int) -> float:
    """Return for how long all threads of a process have run, as the scheduler counts it. Raises FileNotFoundError."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def memory(pids: Mapping[str, int]) -> dict[str, float]:
    """Return the proportional set size of each process in MB (10**6 bytes), as if only these ran on the machine.

    The kernel's own PSS would be lower where other programs run from the same files, as another Python does. Pages of a
    file that several of these processes have mapped are shared out among them; that they have the same ones in memory
    is assumed, so that the sum is at least the true one less what differs.
    """
    resident = {name: _resident(Path(f"/proc/{pid}/smaps").read_text()) for name, pid in pids.items()}
    largest: dict[_FilePart, int] = defaultdict(int)
    users: Counter[_FilePart] = Counter()
    for each in resident.values():
        for part, size in each.files.items():
            largest[part] = max(largest[part], size)
            users[part] += 1
    return {
        name: (each.anonymous + sum(largest[part] / users[part] for part in each.files)) * 1024 / 1e6
        for name, each in resident.items()
    }


def _resident(smaps: str) -> _Resident:
    """Read smaps: what is in memory, in kB."""
    found = _Resident()
    part: _FilePart = ("", "", "")
    rss = 0
    for line in smaps.splitlines():
        match = _MAPPING.match(line)
        if match:
            part = (match["device"], match["inode"], match["offset"])
            continue
        name, _, rest = line.partition(":")
        match name:
            case "Rss":
                rss = int(rest.split()[0])
            case "Anonymous":
                anonymous = int(rest.split()[0])
                found.anonymous += anonymous
                if rss > anonymous:
                    found.files[part] += rss - anonymous
            case _:
                pass
    return found
