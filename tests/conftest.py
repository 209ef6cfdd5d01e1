"""What all tests share: settings, and the real kernel where there is one."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Generator, Iterator

import pytest
from hypothesis import settings

from sidecar.demo.lan import Lan
from tests.fakes.helm import Helm
from tools.helm import find as find_helm

# A busy machine is slow, not wrong: no verdict hangs on wall time.
settings.register_profile("default-without-deadline", deadline=None)
# CI judges a change, so that it tries the same each time; `make soak` and every run at home try something new.
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") == "true" else "default-without-deadline")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite-golden", action="store_true", help="write the texts in tests/golden anew")


def pytest_configure() -> None:
    """A shell that starts us in the background has SIGINT ignored, and every child of ours would ignore it too."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI nothing is left out: a skip is a failure, but for a failure that is expected, which pytest calls a skip."""
    report = yield
    # xdist hands reports on as UTF-8, which odd bytes that somebody logged are not.
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    if os.environ.get("CI") == "true" and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, where CI=true: {report.longrepr}"
    return report


TOOLS = ("ip", "nsenter", "ucarp", "tshark", "keepalived", "nft")


@pytest.fixture(autouse=True)
def signal_mask() -> Iterator[None]:
    """Start-up holds signals back: what a test blocks in this process ends with it, and no later child inherits it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


@pytest.fixture(scope="session")
def real_kernel() -> None:
    """Skip loudly, which fails in CI, where network namespaces or a tool are missing."""
    path = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    missing = [tool for tool in TOOLS if shutil.which(tool, path=path) is None]
    reason = ""
    if os.geteuid() != 0:
        reason = "NOT ROOT, so this is not tested: network namespaces need it; run `sudo make test`"
    elif missing:
        reason = (
            f"NO {', '.join(missing)}, so this is not tested: as root on Debian, `make system-packages` installs it"
        )
    if reason:
        pytest.skip(reason)


@pytest.fixture
def lan(real_kernel: None) -> Iterator[Lan]:  # noqa: ARG001 - a fixture that comes first
    """Three nodes and a client on a bridge, in namespaces of their own."""
    with Lan(nodes=3, prefix="carptest") as lan:
        yield lan


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Real helm and kubectl; skip loudly, which fails in CI, where there are none."""
    programs = find_helm()
    if programs is None:
        pytest.skip("NO HELM AND KUBECTL, so this is not tested: run `make package-tools`")
    return Helm(programs, home=tmp_path_factory.mktemp("helm"))
