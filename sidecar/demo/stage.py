"""The demo as a process: its rights, its signals, and the scene that it sets up and always takes down again."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from kubernetes.client import ApiException
from urllib3.exceptions import HTTPError

from sidecar.demo.admin import ApiError, write_secret
from sidecar.demo.cluster import DOOR_PORT, Backend, Cluster, ClusterError, open_backend, write_node_kubeconfig
from sidecar.demo.controlplane import ControlPlaneError
from sidecar.demo.forward import ApiForwarder
from sidecar.demo.lan import Lan, LanError
from sidecar.demo.node import SidecarNode
from sidecar.demo.probe import arp_prober, echo_prober
from sidecar.demo.story import VIP, Scene, Story, StoryError, pod_name
from sidecar.demo.timeline import Style
from sidecar.privileges import effective_capabilities

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from sidecar.demo.lan import Node

EXIT_FAILED, EXIT_PRIVILEGE = 1, 3

_NEEDED = 1 << 12 | 1 << 13 | 1 << 21  # CAP_NET_ADMIN, CAP_NET_RAW, CAP_SYS_ADMIN
_USER_NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount", "--")
_MARGIN, _WIDEST = 2, 110
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SKEWS = (0, 50, 100)


def play(*, colour: bool) -> int:
    """Run the demo and return its exit code (see ``sidecar.demo.main``)."""
    if effective_capabilities() & _NEEDED != _NEEDED:
        if not _may_have_user_namespaces():
            return _fail("needs root with CAP_SYS_ADMIN, or user namespaces, denied here: use sudo", EXIT_PRIVILEGE)
        _enter_user_namespace()
    style = Style(
        unicode="utf" in (sys.stdout.encoding or "").lower(),
        colour=colour and sys.stdout.isatty() and not os.environ.get("NO_COLOR"),
    )
    width = min(_WIDEST, shutil.get_terminal_size((_WIDEST, 24)).columns - _MARGIN)
    try:
        with _stopped_by_signals(), _scene() as scene:
            Story(scene, style=style, width=width).tell()
    except BrokenPipeError:  # whoever read this has had enough; the command's business
        raise
    except (StoryError, LanError, ControlPlaneError, ClusterError, ApiError, OSError) as error:
        return _fail(str(error), EXIT_FAILED)
    except (ApiException, HTTPError) as error:
        return _fail(f"the API server: {error}", EXIT_FAILED)
    return 0


def _fail(message: str, code: int) -> int:
    print(f"carp-sidecar demo: {message}", file=sys.stderr, flush=True)
    return code


def _may_have_user_namespaces() -> bool:
    try:
        return subprocess.run([*_USER_NAMESPACE, "true"], check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def _enter_user_namespace() -> NoReturn:
    """Start this same command again as root of a user namespace, with a /run in which it may name namespaces."""
    script = 'mount -t tmpfs tmpfs /run && exec "$@"'
    command = [*_USER_NAMESPACE, "sh", "-c", script, "sh", sys.executable, *sys.orig_argv[1:]]
    sys.stdout.flush()
    os.execvp(command[0], command)  # noqa: S606 -- our own command line


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Turn the first signal to stop into an exception that unwinds everything, and ignore the others meanwhile."""

    def stop(number: int, _: FrameType | None) -> NoReturn:
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, stop) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _scene() -> Iterator[Scene]:
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="carp-demo-")))
        backend = stack.enter_context(open_backend(directory, os.environ, say=lambda text: print(text, flush=True)))
        cluster = Cluster(backend)
        lan = stack.enter_context(Lan(nodes=len(_SKEWS), prefix="carp-demo"))
        write_secret(directory / "password", secrets.token_hex(8).encode())
        sidecars = []
        for node, skew in zip(lan.nodes, _SKEWS, strict=True):
            cluster.create_pod(pod_name(node.name))
            host, port = cluster.endpoint
            stack.enter_context(ApiForwarder(node, DOOR_PORT, target_host=host, target_port=port))
            settings = _settings(node, skew, backend=backend, directory=directory)
            sidecar = SidecarNode(node, directory, settings)
            stack.callback(sidecar.kill_all)
            sidecars.append(sidecar)
        yield Scene(
            api=backend.description,
            kubeconfig=backend.kubeconfig,
            cluster=cluster,
            sidecars={sidecar.node.name: sidecar for sidecar in sidecars},
            arp=stack.enter_context(arp_prober(lan, VIP)),
            echo=stack.enter_context(echo_prober(lan, VIP)),
        )


def _settings(node: Node, skew: int, *, backend: Backend, directory: Path) -> dict[str, str]:
    kubeconfig = directory / f"{node.name}.kubeconfig"
    write_node_kubeconfig(backend.node_kubeconfig, kubeconfig)
    return {
        "CARP_VHID": "42",
        "CARP_VIPS": VIP,
        "CARP_PASSWORD_FILE": str(directory / "password"),
        "CARP_ADVSKEW": str(skew),
        "CARP_PREEMPT": "true",
        "CARP_KUBERNETES": "on",
        "KUBECONFIG": str(kubeconfig),
        "POD_NAME": pod_name(node.name),
        "POD_NAMESPACE": backend.namespace,
    }
