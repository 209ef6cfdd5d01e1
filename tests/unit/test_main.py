"""``python -m sidecar``: which process it becomes, and how little each of them carries."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sidecar import __version__
from sidecar.demo.certificates import make_server_identity


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
HTTP = {"asyncio", "ssl", "kubernetes", "aiohttp", "http", "urllib3"}


@pytest.mark.parametrize(
    ("modules", "banned"),
    [
        ("sidecar.engine.process", START_UP_ONLY | HTTP | {"pyroute2", "subprocess", "email"}),
        (
            "sidecar.agent.process",
            START_UP_ONLY | {"aiohttp", "kubernetes", "pyroute2", "cryptography", "sidecar.net", "sidecar.engine"},
        ),
        (
            "sidecar.agent.process, sidecar.agent.kubernetes, sidecar.agent.listener, sidecar.agent.site",
            (START_UP_ONLY - {"argparse"})
            | {"kubernetes", "requests", "urllib3", "pyroute2", "cryptography", "sidecar.net", "sidecar.engine"},
        ),
        (
            "sidecar.supervisor",
            START_UP_ONLY
            | HTTP
            | {"pyroute2", "sqlite3", "unittest", "cryptography", "email", "sidecar.engine", "sidecar.agent"},
        ),
        ("sidecar.__main__", START_UP_ONLY | HTTP | {"pyroute2", "logging", "sidecar.cli"}),
        ("sidecar.become", START_UP_ONLY | HTTP | {"pyroute2", "msgspec", "logging", "subprocess"}),
        ("sidecar.cli", {"pydantic", "pyroute2", "asyncio", "kubernetes", "yaml", "dpkt"}),
    ],
    ids=["engine", "agent-at-first", "agent-of-the-chart", "parent", "main", "command", "command-line"],
)
def test_a_process_imports_its_own_half_only(modules: str, banned: set[str]) -> None:
    assert banned & loaded_by(f"import {modules}") == set()


def test_the_parent_needs_no_more_when_it_asks_the_kernel() -> None:
    asks = """
from sidecar.net import addresses, links, virtual_mac
with addresses.Addresses() as kernel:
    assert kernel.links() and kernel.addresses() is not None and kernel.gateways() is not None
    links.LinkMonitor().close()
    assert virtual_mac.leftovers([(1, 1)]) == []
"""
    loaded = loaded_by("import sidecar.supervisor", asks)
    assert {"pyroute2", "asyncio", "ssl", "sqlite3", "unittest"} & loaded == set()
    assert {"pyroute2.netlink", "pyroute2.netlink.rtnl.ifinfmsg"} <= loaded


def test_the_agent_in_a_pod_needs_no_more_when_it_asks_the_api_server(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a-token")
    (tmp_path / "ca.crt").write_bytes(make_server_identity(["127.0.0.1"]).ca)
    asks = f"""
import asyncio, os, sys
from sidecar.agent import errors, state, transport
from sidecar.ipc.plan import KubernetesPlan
loader = sys.modules["kubernetes.aio.config.incluster_config"]
loader.SERVICE_TOKEN_FILENAME, loader.SERVICE_CERT_FILENAME = {f"{tmp_path}/token"!r}, {f"{tmp_path}/ca.crt"!r}
os.environ |= {{"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": "9"}}
plan = KubernetesPlan(pod_name="a", pod_namespace="b", role_label="c", kubeconfig="")
async def ask():
    asked = transport.Transport(plan, state.MirrorStatus())
    try:
        await asked.request(transport.Call(verb="list", resource="pods", path="/api/v1/pods", what="it"))
    except errors.ApiError as error:
        assert "cannot be reached" in str(error), error
    await asked.close()
asyncio.run(ask())
"""
    loaded = loaded_by("import sidecar.agent.process, sidecar.agent.kubernetes", asks)
    whole = {"kubernetes", "kubernetes.aio", "kubernetes.client", "kubernetes.aio.client.api_client"}
    assert (whole | {"pydantic", "yaml", "requests", "urllib3"}) & loaded == set()
    assert {"kubernetes.aio.client.rest", "kubernetes.aio.config.incluster_config"} <= loaded
    assert not {
        name for name in loaded if name.startswith(("kubernetes.aio.client.models", "kubernetes.aio.client.api"))
    }


def loaded_by(*programs: str) -> set[str]:
    """Return the modules that a Python has loaded after these programs."""
    done = python("-c", "\n".join((*programs, "import sys; print(*sys.modules, sep='\\n')")))
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())
