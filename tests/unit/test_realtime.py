"""Real-time scheduling: allowed, refused, and never of what is started."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = [pytest.mark.netns, pytest.mark.usefixtures("real_kernel")]

_TRY = """\
import os, subprocess, sys
from sidecar import realtime
print(realtime.refused(), os.sched_getscheduler(0))
print(realtime.prefer(), os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK)
print(subprocess.run(["chrt", "-p", "0"], capture_output=True, text=True).stdout.splitlines()[0].split()[-1])
print(realtime.prefer(2**22 + 1))
"""


def tried(*without: str) -> list[str]:
    done = subprocess.run([*without, sys.executable, "-c", _TRY], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_with_the_right_this_process_goes_first_and_what_it_starts_does_not() -> None:
    assert tried() == ["None 0", "None 2", "SCHED_OTHER", "it has ended"]


def test_without_it_all_stays_as_it_is_and_it_is_said_why() -> None:
    why = "CAP_SYS_NICE is missing, or the cgroup has no real-time budget"
    refused = tried("setpriv", "--bounding-set=-sys_nice", "--inh-caps=-sys_nice")
    assert refused == [f"{why} 0", f"{why} 0", "SCHED_OTHER", "it has ended"]
