"""Running before whatever else is busy on the node: sched(7), SCHED_RR."""

from __future__ import annotations

import os

_LOWEST = 1
"""Above all that is not real-time, below all that is, such as the kernel's own threads."""
WHY_NOT = "CAP_SYS_NICE is missing, or the cgroup has no real-time budget"


def prefer(pid: int = 0) -> str | None:
    """Let a process (0: this one) run before all that is not real-time; return why that is refused, None if it is not.

    What it starts is scheduled as usual (SCHED_RESET_ON_FORK). The kernel keeps 5 % of each CPU for the others, should
    it never sleep (``sched_rt_runtime_us``).
    """
    try:
        os.sched_setscheduler(pid, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(_LOWEST))
    except PermissionError:
        return WHY_NOT
    except ProcessLookupError:
        return "it has ended"
    return None


def refused() -> str | None:
    """Return why this process may not do so, None if it may; it stays as it is."""
    why_not = prefer()
    if why_not is None:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    return why_not
