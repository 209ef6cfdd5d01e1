"""Rights dropped for good, in a process of its own each time: what /proc says of it, and after an exec."""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sidecar import privileges

NET_ADMIN_AND_RAW = 1 << privileges.CAP_NET_ADMIN | 1 << privileges.CAP_NET_RAW
SETS = ("CapInh", "CapPrm", "CapEff", "CapAmb")
STATUS = Path("/proc/self/status")
SHOW = "print(open('/proc/self/status').read())"
EXEC = "import os; os.execv('/bin/cat', ['cat', '/proc/self/status'])"

as_root = pytest.mark.skipif(
    os.geteuid() != 0,
    reason="NOT ROOT, so it is not tested how root's rights are dropped: run `sudo make test`",
)


def python(code: str, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [*prefix, sys.executable, "-c", f"from sidecar import privileges\n{code}"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def status_of(code: str, prefix: tuple[str, ...] = ()) -> dict[str, str]:
    """Run code that prints /proc/self/status; return its fields."""
    done = python(code, prefix)
    assert done.returncode == 0, done.stderr
    return dict(re.findall(r"^(\w+):[ \t]*(.*)$", done.stdout, re.MULTILINE))


def capabilities(status: dict[str, str]) -> dict[str, int]:
    return {name: int(status[name], 16) for name in SETS}


@pytest.mark.parametrize("then", [SHOW, EXEC], ids=["itself", "after-an-exec"])
@pytest.mark.parametrize("change_user", [True, False])
def test_nothing_is_left_of_whoever_we_were(then: str, change_user: bool) -> None:
    status = status_of(f"privileges.drop(change_user={change_user})\n{then}")
    assert capabilities(status) == dict.fromkeys(SETS, 0)
    assert status["NoNewPrivs"] == "1"


@as_root
def test_root_becomes_nobody_without_groups() -> None:
    status = status_of(f"privileges.drop(change_user=True)\n{SHOW}")
    assert status["Uid"].split() == status["Gid"].split() == ["65534"] * 4
    assert status["Groups"].split() == []
    assert int(status["CapBnd"], 16) == 0


@as_root
def test_root_may_stay_root_without_its_powers() -> None:
    status = status_of(f"privileges.drop(change_user=False)\n{EXEC}")
    assert status["Uid"].split() == ["0"] * 4
    assert capabilities(status) == dict.fromkeys(SETS, 0)
    assert int(status["CapBnd"], 16) == 0


@as_root
@pytest.mark.parametrize("change_user", [True, False])
def test_in_a_container_that_can_neither_change_uid_nor_shrink_its_bounds(change_user: bool) -> None:
    """NET_ADMIN and NET_RAW and nothing else, as the pod has it: no_new_privs alone has to keep an exec down."""
    setpriv = shutil.which("setpriv")
    assert setpriv, "setpriv is part of util-linux, which every Debian has"
    container = (setpriv, "--inh-caps=-all", "--bounding-set=-all,+net_admin,+net_raw")
    before = status_of(SHOW, container)
    assert capabilities(before)["CapEff"] == NET_ADMIN_AND_RAW
    status = status_of(f"privileges.drop(change_user={change_user})\n{EXEC}", container)
    assert capabilities(status) == dict.fromkeys(SETS, 0)
    assert status["Uid"].split() == ["0"] * 4
    assert int(status["CapBnd"], 16) == NET_ADMIN_AND_RAW


@as_root
def test_whoever_is_not_root_stays_who_it_is() -> None:
    status = status_of(f"import os; os.setuid(12345); privileges.drop(change_user=True)\n{SHOW}")
    assert status["Uid"].split() == ["12345"] * 4
    assert capabilities(status) == dict.fromkeys(SETS, 0)
    assert status["NoNewPrivs"] == "1"


@as_root
def test_dropping_means_that_the_kernel_refuses() -> None:
    done = python("import socket; privileges.drop(change_user=False); socket.socket(socket.AF_PACKET, socket.SOCK_RAW)")
    assert done.returncode == 1
    assert "PermissionError: [Errno 1] Operation not permitted" in done.stderr


def test_the_effective_capabilities_are_what_proc_says() -> None:
    said = re.search(r"^CapEff:\s*(\w+)$", STATUS.read_text(), re.MULTILINE)
    assert said is not None
    assert privileges.effective_capabilities() == int(said[1], 16)
    done = python("privileges.drop(change_user=True); print(privileges.effective_capabilities())")
    assert done.stdout == "0\n"


def test_it_ends_with_its_parent() -> None:
    """A process between us starts a child that binds itself to it; our pipe closes with the last of the two."""
    child = (
        "import os, signal; from sidecar import privileges; privileges.drop(change_user=True);"
        "privileges.die_with_parent(os.getppid()); print(os.getpid(), flush=True); signal.pause()"
    )
    middle = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with subprocess.Popen([sys.executable, "-c", middle], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip().isdigit()
        assert select.select([process.stdout], [], [], 0)[0] == []
        process.kill()
        assert select.select([process.stdout], [], [], 30)[0], "the child outlives its parent"
        assert process.stdout.read() == ""
    assert process.returncode == -signal.SIGKILL


def test_it_ends_at_once_if_its_parent_is_gone_already() -> None:
    done = python(f"privileges.die_with_parent({os.getpid()} + 1); print('still here')")
    assert (done.returncode, done.stdout) == (1, "")
    done = python(f"privileges.die_with_parent({os.getpid()}); print('still here')")
    assert (done.returncode, done.stdout) == (0, "still here\n")


@as_root
@pytest.mark.parametrize("then", [SHOW, EXEC], ids=["itself", "after-an-exec"])
@pytest.mark.parametrize("user", ["", "import os; os.setresuid(-1, 12345, 12345);"], ids=["root", "another"])
def test_network_rights_and_nothing_else_for_a_command(then: str, user: str) -> None:
    keep = "privileges._prctl(8, 1);" if user else ""  # PR_SET_KEEPCAPS, as whoever gives a plain user capabilities
    raise_them = f"privileges._set_capabilities({NET_ADMIN_AND_RAW});" if user else ""
    status = status_of(f"{keep}{user}{raise_them}privileges.keep_network_rights()\n{then}")
    assert capabilities(status) == dict.fromkeys(SETS, NET_ADMIN_AND_RAW)
    assert status["NoNewPrivs"] == "1"


@as_root
def test_network_rights_that_are_not_there_are_not_gained() -> None:
    status = status_of(f"privileges.drop(change_user=False); privileges.keep_network_rights()\n{EXEC}")
    assert capabilities(status) == dict.fromkeys(SETS, 0)


@as_root
def test_what_the_parent_needs_is_told_by_name() -> None:
    done = python(
        "print(privileges.missing_capabilities()); privileges.drop(change_user=False);"
        "print(privileges.missing_capabilities())"
    )
    assert done.stdout == "()\n('NET_ADMIN', 'NET_RAW')\n"
