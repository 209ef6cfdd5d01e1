from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sidecar.demo.programs import Program


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_output_goes_to_the_log_and_a_restart_keeps_it(tmp_path: Path) -> None:
    program = Program(["sh", "-c", "echo to stdout; echo to stderr >&2; exit 3"], tmp_path / "story.log")
    assert (program.name, program.pid, program.exit_code, program.last_lines()) == ("story", None, None, "")

    for _ in range(2):
        program.start()
        wait_for(lambda: program.exit_code is not None)

    assert (program.pid, program.exit_code) == (None, 3)
    assert program.last_lines() == "to stdout\nto stderr\nto stdout\nto stderr"
    assert program.last_lines(1) == "to stderr"


def test_it_sees_nothing_of_the_users_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example")
    program = Program(["env"], tmp_path / "env.log")

    program.start()
    wait_for(lambda: program.exit_code == 0)

    names = {line.partition("=")[0] for line in program.last_lines().splitlines()}
    assert names == {"PATH", "HOME"}


def test_kill_ends_even_a_frozen_program_and_may_be_repeated(tmp_path: Path) -> None:
    program = Program(["sleep", "1000"], tmp_path / "log")
    program.kill()  # not started: nothing to do
    program.start()
    program.signal(signal.SIGSTOP)

    program.kill()
    program.kill()
    program.signal(signal.SIGCONT)

    assert (program.pid, program.exit_code) == (None, -signal.SIGKILL)


def test_it_has_a_session_of_its_own_so_that_ctrl_c_is_the_parents(tmp_path: Path) -> None:
    program = Program(["sleep", "1000"], tmp_path / "log")
    program.start()
    try:
        assert program.pid is not None
        assert os.getsid(program.pid) == program.pid
    finally:
        program.kill()


def test_it_dies_with_its_parent(tmp_path: Path) -> None:
    script = f"""
import time
from pathlib import Path
from sidecar.demo.programs import Program
program = Program(["sh", "-c", "echo up; exec sleep 1000"], Path({str(tmp_path / "log")!r}))
program.start()
while program.last_lines() != "up":
    time.sleep(0.01)
print(program.pid, flush=True)
time.sleep(1000)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert is_running(pid)
        parent.kill()

    wait_for(lambda: not is_running(pid))
