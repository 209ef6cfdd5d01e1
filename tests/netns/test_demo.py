"""The demo as a user runs it, with the stand-in for the API server, and all the ways to stop it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.demo.lan import NETNS
from tests.netns.peers import until
from tests.netns.story import check_story

DEMO = [sys.executable, "-m", "sidecar", "demo"]
NOBODY_SPECIAL = ["unshare", "--user", "--map-user=1000", "--map-group=1000", "--"]
WITHOUT_CAPABILITIES = ["setpriv", "--inh-caps=-all", "--bounding-set=-all", "--"]


@pytest.fixture
def environ(real_kernel: None, tmp_path: Path) -> Iterator[dict[str, str]]:  # noqa: ARG001 - comes first
    """An environment in which no real API server is found, and temporary files are seen if they stay."""
    kept = {name: value for name in ("PYTHONPATH",) if (value := os.environ.get(name))}
    # Not in tmp_path, whose name is too long for the sidecar's Unix socket in it.
    with tempfile.TemporaryDirectory(prefix="demo-") as directory:
        yield {
            "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
            "HOME": str(tmp_path),
            "TMPDIR": directory,
            "LC_ALL": "C.UTF-8",
            **kept,
        }


@pytest.fixture
def nothing_stays(environ: dict[str, str]) -> Iterator[None]:
    before = set(NETNS.glob("carp-demo-*"))
    yield
    # Another demo may run beside this one: its namespaces bear the pid of a living process.
    left = set(NETNS.glob("carp-demo-*")) - before
    assert [path.name for path in left if not Path(f"/proc/{path.name.split('-')[2]}").exists()] == []
    assert not list(Path(environ["TMPDIR"]).iterdir())
    assert not sidecars_of(environ["TMPDIR"])


def sidecars_of(directory: str) -> list[str]:
    """The processes that log to a file in there: the sidecars and what they started."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            if str((process / "fd/2").readlink()).startswith(directory):
                found.append((process / "cmdline").read_text().replace("\0", " "))
    return found


@pytest.mark.usefixtures("nothing_stays")
def test_the_story_is_told_to_its_end(environ: dict[str, str]) -> None:
    done = subprocess.run(DEMO, check=False, capture_output=True, text=True, timeout=300, env=environ)
    assert (done.returncode, done.stderr) == (0, "")
    assert "The API is an in-memory stand-in" in done.stdout
    assert "\033" not in done.stdout, "colours, though this is no terminal"
    check_story(done.stdout)


@pytest.mark.usefixtures("nothing_stays")
def test_it_runs_without_root_where_user_namespaces_are_allowed(environ: dict[str, str]) -> None:
    inner = [*NOBODY_SPECIAL, "unshare", "--user", "--map-root-user", "--mount", "true"]
    refusal = subprocess.run(inner, check=False, capture_output=True, text=True)
    if refusal.returncode:
        pytest.skip(f"NO USER NAMESPACES ({refusal.stderr.strip()}), so the demo is not tested without root")
    done = subprocess.run(
        [*NOBODY_SPECIAL, *DEMO], check=False, capture_output=True, text=True, timeout=300, env=environ
    )
    assert (done.returncode, done.stderr) == (0, "")
    check_story(done.stdout)


@pytest.mark.usefixtures("nothing_stays")
def test_without_any_right_it_says_so_in_one_line(environ: dict[str, str]) -> None:
    done = subprocess.run(
        [*WITHOUT_CAPABILITIES, *DEMO], check=False, capture_output=True, text=True, timeout=60, env=environ
    )
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.count("\n") == 1
    assert "needs root" in done.stderr


@pytest.mark.usefixtures("nothing_stays")
@pytest.mark.parametrize("line", ["To look on", "1. Election", "+0.000 s  SIGKILL"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_can_be_stopped_at_any_time(environ: dict[str, str], line: str, number: signal.Signals) -> None:
    """The signal goes to everything that the demo has started too, as a Ctrl-C in a terminal does."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(DEMO, **pipes, text=True, env=environ, start_new_session=True) as demo:
        assert demo.stdout is not None
        assert demo.stderr is not None
        while line not in demo.stdout.readline():
            assert demo.poll() is None, "it ended before"
        os.killpg(demo.pid, number)
        os.killpg(demo.pid, number)  # an impatient hand
        demo.stdout.read()
        assert demo.stderr.read() == ""
        assert demo.wait(timeout=60) == 128 + number


def test_what_a_killed_one_left_is_swept_by_the_next(environ: dict[str, str]) -> None:
    with subprocess.Popen(DEMO, stdout=subprocess.PIPE, text=True, env=environ) as demo:
        assert demo.stdout is not None
        while "answers for" not in demo.stdout.readline():
            assert demo.poll() is None, "it ended before"
        left = set(NETNS.glob(f"carp-demo-{demo.pid}-*"))
        assert len(sidecars_of(environ["TMPDIR"])) >= 9, "three nodes with three processes each"
        demo.kill()
    assert left
    with subprocess.Popen(DEMO, stdout=subprocess.PIPE, text=True, env=environ) as demo:
        assert demo.stdout is not None
        demo.stdout.readline()
        assert not left & set(NETNS.glob("carp-demo-*"))
        demo.send_signal(signal.SIGINT)
        demo.stdout.read()
    until(lambda: len(sidecars_of(environ["TMPDIR"])) == 0, "the sidecars of the killed one are gone")
