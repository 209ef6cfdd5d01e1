"""The stage itself: what the other cluster tests take for granted about the API server they run against."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import aio

from sidecar.demo.admin import Access, Admin, ApiError
from sidecar.demo.certificates import make_server_identity
from sidecar.demo.controlplane import ControlPlane

pytestmark = pytest.mark.cluster

Rules = list[dict[str, Any]]


@pytest.fixture
def account(control_plane: ControlPlane, namespace: str, role_rules: Rules) -> str:
    """The token of a ServiceAccount that has the chart's Role in ``namespace``."""
    return control_plane.admin.create_account(namespace, "sidecar", rules=role_rules)


def test_the_charts_role_lets_a_sidecar_read_and_label_the_pods_of_its_namespace(
    control_plane: ControlPlane, namespace: str, account: str
) -> None:
    control_plane.admin.create_pod(namespace, "a", node="node-a", labels={"app": "demo"})
    control_plane.admin.create_pod(namespace, "b", node="node-b", labels={"app": "other"})
    sidecar = Admin(Access(control_plane.admin.access.server, control_plane.admin.access.ca, account))

    patch = {"metadata": {"labels": {"carp-role": "master"}}}
    sidecar.request("PATCH", f"/api/v1/namespaces/{namespace}/pods/a", patch)

    assert sidecar.list_pods(namespace)[0]["metadata"]["labels"] == {"app": "demo", "carp-role": "master"}
    assert [pod["spec"]["nodeName"] for pod in sidecar.list_pods(namespace, "carp-role=master")] == ["node-a"]
    assert [pod["metadata"]["name"] for pod in sidecar.list_pods(namespace)] == ["a", "b"]
    assert sidecar.send("GET", f"/api/v1/namespaces/{namespace}/pods?watch=1&timeoutSeconds=1")[0] == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", "/api/v1/namespaces/{namespace}/pods/a"),
        ("PUT", "/api/v1/namespaces/{namespace}/pods/a"),
        ("POST", "/api/v1/namespaces/{namespace}/pods"),
        ("PATCH", "/api/v1/namespaces/{namespace}/pods/a/status"),
        ("GET", "/api/v1/namespaces/{namespace}/secrets"),
        ("POST", "/api/v1/namespaces/{namespace}/serviceaccounts/sidecar/token"),
        ("GET", "/api/v1/namespaces/default/pods"),
        ("GET", "/api/v1/pods"),
        ("GET", "/api/v1/nodes"),
    ],
)
def test_the_charts_role_gives_nothing_else(
    control_plane: ControlPlane, namespace: str, account: str, method: str, path: str
) -> None:
    control_plane.admin.create_pod(namespace, "a", node="node-a")
    body = None if method in {"GET", "DELETE"} else {"metadata": {"name": "a"}}

    with pytest.raises(ApiError, match=r"sidecar.* cannot ") as refusal:
        control_plane.admin.request(method, path.format(namespace=namespace), body, token=account)

    assert (refusal.value.status, refusal.value.reason) == (403, "Forbidden")
    assert account not in str(refusal.value)


def test_a_token_is_needed_and_has_to_be_a_real_one(control_plane: ControlPlane, namespace: str, account: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/pods"
    head, claims, signature = account.split(".")
    forged = f"{head}.{claims}.{signature[::-1]}"

    assert control_plane.admin.send("GET", path, token=account)[0] == 200
    assert control_plane.admin.send("GET", path, token=forged)[0] == 401
    assert control_plane.admin.send("GET", path, token="no-such-token")[0] == 401
    assert control_plane.admin.send("GET", path, token="")[0] == 403  # anonymous is known and has no rights


async def _pod_names(kubeconfig: Path, namespace: str) -> list[str]:
    configuration = aio.client.Configuration()
    await aio.config.load_kube_config(str(kubeconfig), client_configuration=configuration)
    async with aio.client.ApiClient(configuration) as client:
        pods = await aio.client.CoreV1Api(client).list_namespaced_pod(namespace)
    return [pod.metadata.name for pod in pods.items]


def test_the_official_client_verifies_the_server_and_gets_in_by_the_kubeconfig(
    control_plane: ControlPlane, namespace: str, account: str, tmp_path: Path
) -> None:
    control_plane.admin.create_pod(namespace, "a", node="node-a")
    kubeconfig = control_plane.admin.write_kubeconfig(tmp_path / "kubeconfig", account)

    assert asyncio.run(_pod_names(kubeconfig, namespace)) == ["a"]
    assert kubeconfig.stat().st_mode & 0o777 == 0o600


def test_a_kubeconfig_for_another_address_still_verifies_the_servers_name(
    control_plane: ControlPlane, namespace: str, account: str, tmp_path: Path
) -> None:
    elsewhere = control_plane.admin.access.server.replace("127.0.0.1", "0.0.0.0")  # Linux takes it for this host
    kubeconfig = control_plane.admin.write_kubeconfig(tmp_path / "kubeconfig", account, server=elsewhere)

    assert asyncio.run(_pod_names(kubeconfig, namespace)) == []
    unnamed = Admin(Access(elsewhere, control_plane.admin.access.ca, account))
    with pytest.raises(ssl.SSLCertVerificationError, match="IP address mismatch"):
        unnamed.list_pods(namespace)


def test_a_server_of_another_ca_is_refused(control_plane: ControlPlane) -> None:
    access = control_plane.admin.access
    stranger = make_server_identity(["kubernetes"]).ca.decode()

    with pytest.raises(ssl.SSLCertVerificationError):
        Admin(Access(access.server, stranger, access.token)).request("GET", "/version")


def test_an_outage_refuses_connections_and_keeps_data_port_and_tokens(
    control_plane: ControlPlane, namespace: str, account: str
) -> None:
    before = control_plane.admin.create_pod(namespace, "a", node="node-a")

    control_plane.stop_apiserver()
    with pytest.raises(ConnectionRefusedError):
        control_plane.admin.get_pod(namespace, "a")
    control_plane.start_apiserver()

    after = control_plane.admin.request("GET", f"/api/v1/namespaces/{namespace}/pods", token=account)
    assert [pod["metadata"]["uid"] for pod in after["items"]] == [before["metadata"]["uid"]]


def test_a_paused_server_hangs_and_goes_on_where_it_was(control_plane: ControlPlane, namespace: str) -> None:
    control_plane.pause_apiserver()
    with pytest.raises(TimeoutError):
        control_plane.admin.request("GET", "/version", timeout=0.5)
    control_plane.resume_apiserver()

    assert control_plane.admin.list_pods(namespace) == []


RUN_UNTIL_SIGNALLED = """
import signal
from sidecar.demo.controlplane import ControlPlane, find_assets
with ControlPlane(find_assets()):
    print("ready", flush=True)
    signal.pause()
"""


@pytest.fixture
def runner(control_plane: ControlPlane, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process of its own with a control plane in ``tmp_path``."""
    del control_plane  # asked for only because it knows when to skip
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    argv = [sys.executable, "-c", RUN_UNTIL_SIGNALLED]
    with subprocess.Popen(
        argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        yield process
        process.kill()


def test_ctrl_c_during_the_start_leaves_nothing_behind(runner: subprocess.Popen[str], tmp_path: Path) -> None:
    wait_for(lambda: len(programs_of(tmp_path)) == 2, "etcd and kube-apiserver to be started")

    runner.send_signal(signal.SIGINT)

    assert runner.wait(timeout=30) == -signal.SIGINT
    assert runner.stdout is not None
    assert runner.stdout.read() == "", "it was interrupted too late to show anything about the start"
    assert programs_of(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_no_program_outlives_a_parent_that_was_killed(runner: subprocess.Popen[str], tmp_path: Path) -> None:
    assert runner.stdout is not None
    assert runner.stdout.readline() == "ready\n"
    assert programs_of(tmp_path) == ["etcd", "kube-apiserver"]

    runner.kill()

    wait_for(lambda: programs_of(tmp_path) == [], "etcd and kube-apiserver to be gone")


def programs_of(directory: Path) -> list[str]:
    """The names of the running programs that have ``directory`` in their arguments, without zombies."""
    names = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            argv = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if any(str(directory) in argument for argument in argv):
                names.append(Path(argv[0]).name)
    return sorted(names)


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.05)
