"""The calls to the Kubernetes API: what is asked, what is made of the answers, and errors in words."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from sidecar.agent.api import ApiError, KubernetesPods
from sidecar.agent.desired import Metadata, Pod
from sidecar.ipc.plan import KubernetesPlan
from tests.fakes.http import ScriptedServer, write_kubeconfig

T = TypeVar("T")

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "carp-1",
        "resourceVersion": "41",
        "labels": {"carp-role": "master"},
        "annotations": {"carp-sidecar/vhid": "42"},
        "managedFields": [{"manager": "x"}],
    },
    "spec": {"containers": [{"name": "carp"}]},
}
READ = Pod(
    name="carp-1",
    resource_version="41",
    labels={"carp-role": "master"},
    annotations={"carp-sidecar/vhid": "42"},
)
BARE = {"metadata": {"name": "carp-2", "resourceVersion": "7"}}


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


def plan(kubeconfig: str) -> KubernetesPlan:
    return KubernetesPlan(pod_name="carp-1", pod_namespace="edge", role_label="carp-role", kubeconfig=kubeconfig)


def call(kubeconfig: str, action: Callable[[KubernetesPods], Awaitable[T]]) -> T:
    """Connect, do one thing and close."""

    async def run() -> T:
        pods = await KubernetesPods.connect(plan(kubeconfig))
        try:
            return await action(pods)
        finally:
            await pods.close()

    return asyncio.run(run())


def fault(kubeconfig: str, action: Callable[[KubernetesPods], Awaitable[object]]) -> tuple[int | None, str]:
    with pytest.raises(ApiError) as caught:
        call(kubeconfig, action)
    return caught.value.status, str(caught.value)


# What is asked -------------------------------------------------------------------------------------------------------


def test_the_own_pod_is_read_with_the_token(server: ScriptedServer, tmp_path: Path) -> None:
    server.answers.append((200, json.dumps(POD).encode()))
    assert call(server.kubeconfig(tmp_path / "config"), lambda pods: pods.own()) == READ
    (request,) = server.requests
    assert (request.method, request.path) == ("GET", "/api/v1/namespaces/edge/pods/carp-1")
    assert request.headers["authorization"] == "Bearer a-token"


def test_pods_are_found_by_their_label(server: ScriptedServer, tmp_path: Path) -> None:
    server.answers.append((200, json.dumps({"kind": "PodList", "items": [POD, BARE]}).encode()))
    found = call(server.kubeconfig(tmp_path / "config"), lambda pods: pods.labelled("carp-role=master"))
    assert found == [READ, Pod(name="carp-2", resource_version="7", labels={}, annotations={})]
    assert server.requests[0].path == "/api/v1/namespaces/edge/pods?labelSelector=carp-role%3Dmaster"


def test_no_pods_is_no_error(server: ScriptedServer, tmp_path: Path) -> None:
    server.answers.append((200, b'{"items":null}'))
    assert call(server.kubeconfig(tmp_path / "config"), lambda pods: pods.labelled("a=b")) == []


@pytest.mark.parametrize("version", [None, "41"])
def test_labels_and_annotations_are_set_in_one_merge_patch(
    server: ScriptedServer, tmp_path: Path, version: str | None
) -> None:
    server.answers.append((200, json.dumps(POD).encode()))
    wanted = Metadata(labels={"carp-role": "backup"}, annotations={"carp-sidecar/reason": "preempt"})
    call(server.kubeconfig(tmp_path / "config"), lambda pods: pods.patch("carp-2", wanted, resource_version=version))
    (request,) = server.requests
    assert (request.method, request.path) == ("PATCH", "/api/v1/namespaces/edge/pods/carp-2")
    assert request.headers["content-type"] == "application/merge-patch+json"
    said = {"labels": {"carp-role": "backup"}, "annotations": {"carp-sidecar/reason": "preempt"}}
    assert request.body == {"metadata": said | ({} if version is None else {"resourceVersion": version})}


def test_a_connection_serves_several_calls(server: ScriptedServer, tmp_path: Path) -> None:
    server.answers += [(200, json.dumps(POD).encode()), (503, b"{}"), (200, json.dumps(POD).encode())]

    async def thrice(pods: KubernetesPods) -> list[Pod]:
        first = await pods.own()
        with pytest.raises(ApiError):
            await pods.own()
        return [first, await pods.own()]

    assert call(server.kubeconfig(tmp_path / "config"), thrice) == [READ, READ]


# Errors --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "the API server does not accept the token (401); is the service account still there?"),
        (
            403,
            "the right to get pods in namespace edge is missing (403); bind the Role that the chart ships to this "
            "pod's service account",
        ),
        (404, "pod edge/carp-1 is not there (404); check POD_NAME and POD_NAMESPACE"),
        (409, "the API server answers 409: told why"),
        (429, "the API server answers 429: told why"),
        (500, "the API server answers 500: told why"),
    ],
)
def test_every_refusal_says_what_to_do(server: ScriptedServer, tmp_path: Path, status: int, words: str) -> None:
    server.answers.append((status, b'{"kind":"Status","message":"told why"}'))
    assert fault(server.kubeconfig(tmp_path / "config"), lambda pods: pods.own()) == (status, words)


@pytest.mark.parametrize(("verb", "action"), [("list", "labelled"), ("patch", "patch")])
def test_a_missing_right_is_named(server: ScriptedServer, tmp_path: Path, verb: str, action: str) -> None:
    server.answers.append((403, b""))
    arguments = ("a=b",) if action == "labelled" else ("carp-2", Metadata(labels={}, annotations={}))
    status, words = fault(
        server.kubeconfig(tmp_path / "config"),
        lambda pods: getattr(pods, action)(*arguments),
    )
    assert status == 403
    assert words.startswith(f"the right to {verb} pods in namespace edge is missing")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"<html>", "the API server answers 502"),
        (b'{"message":1}', "the API server answers 502"),
        (b"\xff\xfe", "the API server answers 502"),
        (json.dumps({"message": "x" * 1000}).encode(), "the API server answers 502: " + "x" * 200),
    ],
    ids=["html", "type", "not-utf-8", "long"],
)
def test_whatever_a_proxy_says_is_one_short_line(
    server: ScriptedServer, tmp_path: Path, body: bytes, words: str
) -> None:
    server.answers.append((502, body))
    assert fault(server.kubeconfig(tmp_path / "config"), lambda pods: pods.own()) == (502, words)


@pytest.mark.parametrize("body", [b"", b"{}", b"<html>", b'{"metadata":{"name":1}}', b"\xff"])
def test_an_answer_that_is_no_pod_is_an_error(server: ScriptedServer, tmp_path: Path, body: bytes) -> None:
    server.answers.append((200, body))
    status, words = fault(server.kubeconfig(tmp_path / "config"), lambda pods: pods.own())
    assert status is None
    assert words.startswith("the API server's answer cannot be read: ")


def test_a_server_that_hangs_up_is_an_error(server: ScriptedServer, tmp_path: Path) -> None:
    server.answers += [None, None, None]
    status, words = fault(server.kubeconfig(tmp_path / "config"), lambda pods: pods.own())
    assert status is None
    assert words.startswith("the API server cannot be reached: ")


def test_a_server_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        kubeconfig = write_kubeconfig(tmp_path / "config", closed.getsockname()[1])
    status, words = fault(kubeconfig, lambda pods: pods.own())
    assert status is None
    assert words.startswith("the API server cannot be reached: ")


@pytest.mark.parametrize("content", [None, "{}"], ids=["missing", "bare"])
def test_a_kubeconfig_that_cannot_be_used_is_an_error_that_names_it(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "config"
    if content is not None:
        path.write_text(content)
    status, words = fault(str(path), lambda pods: pods.own())
    assert status is None
    assert words.startswith(f"cannot read KUBECONFIG {path}: ")


@pytest.mark.parametrize("content", ["", "[", "\0", "text"], ids=["empty", "broken", "binary", "no-mapping"])
def test_a_kubeconfig_that_is_no_kubeconfig_is_an_error_that_names_it(tmp_path: Path, content: str) -> None:
    test_a_kubeconfig_that_cannot_be_used_is_an_error_that_names_it(tmp_path, content)


def test_outside_a_pod_there_is_no_service_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    status, words = fault("", lambda pods: pods.own())
    assert status is None
    assert words.startswith("cannot read the pod's service account: ")
