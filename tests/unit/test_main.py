"""``python -m sidecar``: which process it becomes, and how little each of them carries."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from sidecar import __version__


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-P", *arguments], capture_output=True, text=True, check=False, timeout=120)


def test_anything_else_is_the_command_line() -> None:
    done = python("-m", "sidecar", "--version")
    assert (done.returncode, done.stdout) == (0, f"carp-sidecar {__version__}\n")
    done = python("-m", "sidecar", "engine")  # too few words for the process
    assert done.returncode == 2
    assert "'engine' is none of run, check," in done.stderr


def test_a_command_is_become_and_one_that_cannot_be_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://user:secret@proxy")
    done = python("-m", "sidecar", "command", str(os.getpid()), "/bin/echo", "eth0", "10.0.0.200")
    assert (done.returncode, done.stdout, done.stderr) == (0, "eth0 10.0.0.200\n", "")
    done = python("-m", "sidecar", "command", str(os.getpid()), "/nonexistent/up")
    assert (done.returncode, done.stderr) == (126, "cannot run /nonexistent/up: No such file or directory\n")
    done = python("-m", "sidecar", "command", str(os.getpid()), "/usr/bin/env")
    names = {line.partition("=")[0] for line in done.stdout.splitlines()}
    assert names <= {"PATH", "HOME", "LANG", "LANGUAGE", "TZ"} | {name for name in names if name.startswith("LC_")}
    done = python("-m", "sidecar", "command", "1", "/bin/echo", "for nobody")
    assert (done.returncode, done.stdout) == (1, "")


START_UP_ONLY = {"pydantic", "pydantic_settings", "yaml", "argparse", "dpkt"}


@pytest.mark.parametrize(
    ("module", "banned"),
    [
        ("sidecar.engine.process", START_UP_ONLY | {"pyroute2", "asyncio", "kubernetes", "aiohttp", "http", "urllib3"}),
        (
            "sidecar.agent.process",
            {"pydantic_settings", "pyroute2", "argparse", "dpkt", "sidecar.net", "sidecar.engine"},
        ),
        (
            "sidecar.supervisor",
            {
                "pydantic",
                "pydantic_settings",
                "yaml",
                "dpkt",
                "kubernetes",
                "aiohttp",
                "sidecar.engine",
                "sidecar.agent",
            },
        ),
        ("sidecar.__main__", START_UP_ONLY | {"pyroute2", "asyncio", "kubernetes", "logging", "sidecar.cli"}),
        ("sidecar.become", START_UP_ONLY | {"pyroute2", "asyncio", "msgspec", "logging", "subprocess"}),
        ("sidecar.cli", {"pydantic", "pyroute2", "asyncio", "kubernetes", "yaml", "dpkt"}),
    ],
    ids=["engine", "agent", "parent", "main", "command", "command-line"],
)
def test_a_process_imports_its_own_half_only(module: str, banned: set[str]) -> None:
    done = python("-c", f"import sys, {module}; print(*sys.modules, sep='\\n')")
    assert done.returncode == 0, done.stderr
    assert banned & set(done.stdout.split()) == set()
