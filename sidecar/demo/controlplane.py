"""A real Kubernetes control plane on this machine: etcd, kube-apiserver and, where asked, kube-controller-manager.

It lives in a temporary directory, listens on loopback, has RBAC on and a certificate of its own CA; nothing is left of
it after ``stop``. The programs come from ``tools/kubernetes/build.sh`` or from ``KUBEBUILDER_ASSETS``.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import signal
import socket
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from sidecar.demo.admin import TLS_SERVER_NAME, Access, Admin, ApiError, write_secret
from sidecar.demo.certificates import make_private_key, make_server_identity
from sidecar.demo.programs import Program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

HOW_TO_GET_ASSETS = "run `make cluster-tools`, or set KUBEBUILDER_ASSETS to a folder with kube-apiserver and etcd"

_READY_DEADLINE = 180.0  # seconds; 5 on an idle machine, 45 were seen on a busy one
_POLL = 0.1  # seconds
_ISSUER = "https://kubernetes.default.svc"
_ADMIN_USER = "carp-admin"
# Pods here are bound to nodes that have no kubelet, or don't exist. For it these would delete them, or say that they
# aren't ready. The endpointslice controller does want a Node: it leaves out a pod whose node isn't there.
_NOT_WANTED = ("pod-garbage-collector-controller", "taint-eviction-controller", "node-lifecycle-controller")
_CONTROLLERS = ",".join(["*", *(f"-{name}" for name in _NOT_WANTED)])


class ControlPlaneError(RuntimeError):
    """A program of the control plane didn't come up, or isn't up where it has to be."""


@dataclass(frozen=True, slots=True)
class Assets:
    """The programs. ``controller_manager`` is None where the folder of kube-apiserver has none."""

    apiserver: Path
    etcd: Path
    controller_manager: Path | None


def find_assets(environ: Mapping[str, str] = os.environ) -> Assets | None:
    """Return the programs, or None where one of the first two is missing.

    Looks into ``KUBEBUILDER_ASSETS``, then into the folder of the newest version that build.sh left in its cache
    (``carp-sidecar`` in ``XDG_CACHE_HOME`` or ``~/.cache``); etcd may also be on the ``PATH``.
    """
    given = environ.get("KUBEBUILDER_ASSETS")
    folders = [Path(given).absolute()] if given else []
    folders += sorted(_cache(environ).absolute().glob("kubernetes-*"), key=_version, reverse=True)
    apiserver = _first(folder / "kube-apiserver" for folder in folders)
    on_path = [Path(folder) for folder in environ.get("PATH", os.defpath).split(os.pathsep) if folder]
    etcd = _first(folder / "etcd" for folder in [*folders, *on_path])
    if apiserver is None or etcd is None:
        return None
    # One of another version may be newer than the API server, which Kubernetes doesn't support.
    return Assets(apiserver, etcd, _first([apiserver.with_name("kube-controller-manager")]))


def _cache(environ: Mapping[str, str]) -> Path:
    base = environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path(environ.get("HOME", "/")) / ".cache") / "carp-sidecar"


def _version(folder: Path) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", folder.name))


def _first(candidates: Iterable[Path]) -> Path | None:
    return next((path for path in candidates if os.access(path, os.X_OK) and path.is_file()), None)


def free_port(address: str = "127.0.0.1") -> int:
    """Return a TCP port that is free on ``address``, below the range from which the kernel serves clients.

    A client that keeps dialling a stopped server on a port of that range can be given that very port as its own and so
    be connected to itself; the server then finds it taken when it comes back. Raises OSError where none is free.
    """
    ephemeral = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    first, last = 10_000, ephemeral - 1 if ephemeral > 11_000 else 60_000
    for _ in range(100):
        port = first + secrets.randbelow(last - first)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((address, port))
            return port
    raise OSError(f"no free TCP port between {first} and {last} on {address}")


@dataclass(frozen=True, slots=True)
class _Running:
    etcd: Program
    apiserver: Program
    admin: Admin

    def is_ready(self) -> bool:
        """Say whether the API server serves."""
        try:
            return self.admin.send("GET", "/readyz", timeout=5.0)[0] == 200
        except OSError:
            return False

    def has_default_account(self) -> bool:
        """Say whether the controller-manager has done something: its health port is off."""
        try:
            self.admin.request("GET", "/api/v1/namespaces/default/serviceaccounts/default")
        except ApiError as error:
            if error.status == 404:
                return False
            raise
        return True


class ControlPlane:
    """A context manager; ``start`` and ``stop`` do the same. ``admin`` makes calls with all rights.

    ``address`` is where the API server listens. A client that reaches it in another way, through a forwarder in a
    network namespace say, verifies it by the kubeconfig's ``tls-server-name``. Start it from a thread that lasts as
    long as it is wanted: the programs die with that thread. A SIGKILL of this process leaves the directory in /tmp.
    """

    def __init__(self, assets: Assets, *, controller_manager: bool = False, address: str = "127.0.0.1") -> None:
        self._assets = assets
        self._wants_controller_manager = controller_manager
        self._address = address
        self._cleanup = contextlib.ExitStack()
        self._running: _Running | None = None

    @property
    def admin(self) -> Admin:
        """An administrator's calls. Raises ControlPlaneError where the control plane isn't started."""
        return self._started().admin

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start everything and return once it serves. Raises ControlPlaneError with the end of the log."""
        if self._wants_controller_manager and self._assets.controller_manager is None:
            raise ControlPlaneError(f"{self._assets.apiserver.parent} has no kube-controller-manager")
        with contextlib.ExitStack() as stack:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="carp-controlplane-")))
            stack.callback(setattr, self, "_running", None)
            ports = {"etcd": free_port(), "peer": free_port(), "api": free_port(self._address)}
            etcd = Program(self._etcd_argv(directory, ports), directory / "etcd.log")
            apiserver = Program(self._apiserver_argv(directory, ports), directory / "kube-apiserver.log")
            stack.callback(etcd.kill)
            stack.callback(apiserver.kill)
            admin = Admin(self._write_credentials(directory, ports["api"]))
            self._running = _Running(etcd=etcd, apiserver=apiserver, admin=admin)
            etcd.start()
            self.start_apiserver()
            if self._wants_controller_manager:
                self._start_controller_manager(directory, stack)
            self._cleanup = stack.pop_all()

    def stop(self) -> None:
        """End every program at once and remove the directory: nothing in it is worth a tidy shutdown."""
        self._cleanup.close()

    @property
    def pids(self) -> dict[str, int]:
        """The process ids of etcd and kube-apiserver by name, of those that run."""
        running = self._started()
        return {each.name: each.pid for each in (running.etcd, running.apiserver) if each.pid is not None}

    def start_apiserver(self, *, wait: bool = True) -> None:
        """Bring the API server back, on its port and with its data; it may be up already.

        Return once it serves, or at once without ``wait``.
        """
        running = self._started()
        running.apiserver.signal(signal.SIGCONT)
        if running.apiserver.pid is None:
            running.apiserver.start()
        if wait:
            _wait(running.is_ready, running.etcd, running.apiserver)

    def serves(self) -> bool:
        """Say whether the API server is ready now."""
        return self._started().is_ready()

    def stop_apiserver(self) -> None:
        """Kill the API server, so that connections are refused; etcd keeps the data."""
        self._started().apiserver.kill()

    def pause_apiserver(self) -> None:
        """Freeze the API server: connections are accepted by the kernel and then hang. ``start_apiserver`` thaws it."""
        self._started().apiserver.signal(signal.SIGSTOP)

    def resume_apiserver(self) -> None:
        """Thaw the API server without waiting for it."""
        self._started().apiserver.signal(signal.SIGCONT)

    def _started(self) -> _Running:
        if self._running is None:
            raise ControlPlaneError("the control plane isn't started: call start() first")
        return self._running

    def _write_credentials(self, directory: Path, port: int) -> Access:
        names = (TLS_SERVER_NAME, "localhost", "127.0.0.1", self._address)
        identity, token = make_server_identity(tuple(dict.fromkeys(names))), secrets.token_urlsafe(32)
        (directory / "ca.crt").write_bytes(identity.ca)
        (directory / "server.crt").write_bytes(identity.certificate)
        write_secret(directory / "server.key", identity.key)
        write_secret(directory / "accounts.key", make_private_key())
        write_secret(directory / "tokens.csv", f'{token},{_ADMIN_USER},1,"system:masters"\n'.encode())
        return Access(server=f"https://{self._address}:{port}", ca=identity.ca.decode(), token=token)

    def _etcd_argv(self, directory: Path, ports: Mapping[str, int]) -> tuple[str, ...]:
        client, peer = f"http://127.0.0.1:{ports['etcd']}", f"http://127.0.0.1:{ports['peer']}"
        return (
            str(self._assets.etcd),
            f"--data-dir={directory / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
        )

    def _apiserver_argv(self, directory: Path, ports: Mapping[str, int]) -> tuple[str, ...]:
        return (
            str(self._assets.apiserver),
            f"--bind-address={self._address}",
            f"--advertise-address={self._address}",  # else it looks for a default route, and there may be none
            f"--secure-port={ports['api']}",
            f"--etcd-servers=http://127.0.0.1:{ports['etcd']}",
            f"--tls-cert-file={directory / 'server.crt'}",
            f"--tls-private-key-file={directory / 'server.key'}",
            f"--token-auth-file={directory / 'tokens.csv'}",
            f"--service-account-issuer={_ISSUER}",
            f"--service-account-key-file={directory / 'accounts.key'}",
            f"--service-account-signing-key-file={directory / 'accounts.key'}",
            "--authorization-mode=Node,RBAC",
            # It wants the account "default" in each namespace, which only the controller-manager makes.
            "--disable-admission-plugins=ServiceAccount",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--endpoint-reconciler-type=none",  # the others refuse a loopback address
            "--enable-priority-and-fairness=false",
            "--allow-privileged=true",
            "--profiling=false",
        )

    def _start_controller_manager(self, directory: Path, stack: contextlib.ExitStack) -> None:
        running = self._started()
        kubeconfig = directory / "controller-manager.kubeconfig"
        running.admin.write_kubeconfig(kubeconfig, running.admin.access.token)
        argv = (
            str(self._assets.controller_manager),
            f"--kubeconfig={kubeconfig}",
            f"--service-account-private-key-file={directory / 'accounts.key'}",
            f"--root-ca-file={directory / 'ca.crt'}",
            f"--controllers={_CONTROLLERS}",
            "--leader-elect=false",
            "--secure-port=0",
        )
        program = Program(argv, directory / "kube-controller-manager.log")
        stack.callback(program.kill)
        program.start()
        _wait(running.has_default_account, running.apiserver, program)


def _wait(condition: Callable[[], bool], *programs: Program) -> None:
    """Poll until ``condition`` holds. Raises ControlPlaneError when one of ``programs`` ends, or at the deadline."""
    deadline = time.monotonic() + _READY_DEADLINE
    while not condition():
        for program in programs:
            if program.exit_code is not None:
                raise ControlPlaneError(
                    f"{program.name} ended with exit code {program.exit_code}; its last lines:\n{program.last_lines()}"
                )
        if time.monotonic() > deadline:
            last = programs[-1]
            raise ControlPlaneError(
                f"{last.name} wasn't ready after {_READY_DEADLINE:.0f} s; its last lines:\n{last.last_lines()}"
            )
        time.sleep(_POLL)
