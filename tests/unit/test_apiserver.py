"""The stand-in over real HTTP: by hand, by the official asyncio client that the agent uses, and by kubectl."""

import asyncio
import http.client
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes.aio import client, config, watch

from sidecar.demo.apiserver import VERSION, ApiServer
from sidecar.demo.patches import JSON_PATCH, MERGE, STRATEGIC

PODS = "/api/v1/namespaces/demo/pods"


@pytest.fixture
def api() -> Iterator[ApiServer]:
    with ApiServer() as server:
        for number in (1, 2):
            server.store.create(
                "demo",
                {
                    "metadata": {"name": f"carp-{number}", "labels": {"app": "carp"}},
                    "spec": {"nodeName": f"node-{number}", "containers": [{"name": "app", "image": "app"}]},
                },
            )
        yield server


def ask(
    api: ApiServer, method: str, path: str, body: object = None, *, accept: str = "", kind: str = ""
) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=30)
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    connection.request(method, path, data, {"Accept": accept, "Content-Type": kind})
    response = connection.getresponse()
    answer = json.loads(response.read())
    connection.close()
    return response.status, answer


def test_pods_are_created_read_listed_patched_and_deleted(api: ApiServer) -> None:
    assert ask(api, "POST", PODS, {"metadata": {"name": "new"}})[0] == 201
    assert ask(api, "GET", f"{PODS}/new")[1]["metadata"]["namespace"] == "demo"
    code, listed = ask(api, "GET", f"{PODS}?labelSelector=app%3Dcarp")
    assert (code, listed["kind"], [pod["metadata"]["name"] for pod in listed["items"]]) == (
        200,
        "PodList",
        ["carp-1", "carp-2"],
    )
    code, patched = ask(api, "PATCH", f"{PODS}/new", {"metadata": {"labels": {"a": "b"}}}, kind=MERGE)
    assert (code, patched["metadata"]["labels"]) == (200, {"a": "b"})
    code, patched = ask(api, "PATCH", f"{PODS}/new/status", {"status": {"phase": "Running"}}, kind=STRATEGIC)
    assert (code, patched["status"]["phase"]) == (200, "Running")
    assert ask(api, "DELETE", f"{PODS}/new", {})[0] == 200
    assert ask(api, "GET", f"{PODS}/new")[0] == 404
    assert len(ask(api, "GET", "/api/v1/pods")[1]["items"]) == 2


@pytest.mark.parametrize(
    ("method", "path", "body", "kind", "code", "reason"),
    [
        ("GET", f"{PODS}/none", None, "", 404, "NotFound"),
        ("GET", "/api/v1/nodes", None, "", 404, "NotFound"),
        ("GET", f"{PODS}?labelSelector=a%3D%3D%3D", None, "", 400, "BadRequest"),
        ("POST", PODS, {"metadata": {"name": "carp-1"}}, "", 409, "AlreadyExists"),
        ("POST", PODS, b"{", "", 400, "BadRequest"),
        ("POST", PODS, [], "", 400, "BadRequest"),
        ("POST", "/api/v1/pods", {"metadata": {"name": "x"}}, "", 400, "BadRequest"),
        (
            "PATCH",
            f"{PODS}/carp-1",
            {"metadata": {"resourceVersion": "1", "labels": {"a": "b"}}},
            MERGE,
            409,
            "Conflict",
        ),
        ("PATCH", f"{PODS}/carp-1", {}, "application/apply-patch+yaml", 415, "UnsupportedMediaType"),
        ("PATCH", f"{PODS}/none", {}, MERGE, 404, "NotFound"),
        ("PATCH", PODS, {}, MERGE, 405, "MethodNotAllowed"),
        ("DELETE", PODS, None, "", 405, "MethodNotAllowed"),
    ],
)
def test_errors_are_status_objects(
    api: ApiServer, *, method: str, path: str, body: object, kind: str, code: int, reason: str
) -> None:
    got, status = ask(api, method, path, body, kind=kind)
    assert (got, status["kind"], status["code"], status["reason"]) == (code, "Status", code, reason)


def test_a_body_that_is_too_large_is_refused(api: ApiServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=30)
    connection.putrequest("POST", PODS)
    connection.putheader("Content-Length", "4000000")
    connection.endheaders()
    response = connection.getresponse()
    assert (response.status, json.loads(response.read())["reason"]) == (413, "RequestEntityTooLarge")
    connection.close()


def test_a_connection_serves_many_requests_also_after_an_error(api: ApiServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=30)
    for path, code in ((f"{PODS}/none", 404), (f"{PODS}/carp-1", 200), ("/api", 200)):
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
        assert response.status == code
    connection.close()


def test_it_says_what_it_has(api: ApiServer) -> None:
    assert ask(api, "GET", "/version")[1]["gitVersion"] == VERSION
    assert ask(api, "GET", "/api")[1]["versions"] == ["v1"]
    assert ask(api, "GET", "/apis")[1]["groups"] == []
    assert [each["name"] for each in ask(api, "GET", "/api/v1")[1]["resources"]] == ["pods", "pods/status"]


def test_tables_are_drawn_up_for_those_who_ask(api: ApiServer) -> None:
    accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
    _, table = ask(api, "GET", PODS, accept=accept)
    assert (table["kind"], [row["cells"][0] for row in table["rows"]]) == ("Table", ["carp-1", "carp-2"])
    _, table = ask(api, "GET", f"{PODS}/carp-1", accept=accept)
    assert [row["cells"][0] for row in table["rows"]] == ["carp-1"]


def watched(api: ApiServer, query: str, *, accept: str = "") -> Iterator[dict[str, Any]]:
    connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=30)
    connection.request("GET", f"{PODS}?watch=true&{query}", headers={"Accept": accept})
    response = connection.getresponse()
    assert response.status == 200
    try:
        while line := response.readline():
            yield json.loads(line)
    finally:
        connection.close()


def label(api: ApiServer, name: str, role: str) -> None:
    assert ask(api, "PATCH", f"{PODS}/{name}", {"metadata": {"labels": {"carp-role": role}}}, kind=MERGE)[0] == 200


def test_a_watch_begins_with_what_is_there_and_goes_on_with_what_changes(api: ApiServer) -> None:
    events = watched(api, "resourceVersion=0")
    assert [(e["type"], e["object"]["metadata"]["name"]) for e in (next(events), next(events))] == [
        ("ADDED", "carp-1"),
        ("ADDED", "carp-2"),
    ]
    label(api, "carp-2", "master")
    event = next(events)
    assert (event["type"], event["object"]["metadata"]["labels"]["carp-role"]) == ("MODIFIED", "master")
    events.close()


def test_a_watch_from_a_version_tells_of_what_came_after_it_and_is_selected(api: ApiServer) -> None:
    version = ask(api, "GET", PODS)[1]["metadata"]["resourceVersion"]
    label(api, "carp-1", "master")
    label(api, "carp-1", "backup")
    label(api, "carp-2", "master")
    events = watched(api, f"resourceVersion={version}&labelSelector=carp-role%3Dmaster")
    assert [(e["type"], e["object"]["metadata"]["name"]) for e in (next(events), next(events), next(events))] == [
        ("ADDED", "carp-1"),
        ("DELETED", "carp-1"),
        ("ADDED", "carp-2"),
    ]
    events.close()


def test_a_watch_of_tables_sends_a_table_for_each_event(api: ApiServer) -> None:
    events = watched(api, "", accept="application/json;as=Table;v=v1;g=meta.k8s.io")
    assert next(events)["object"]["rows"][0]["cells"][0] == "carp-1"
    events.close()


def test_a_watch_ends_when_its_time_is_over(api: ApiServer) -> None:
    assert len(list(watched(api, "timeoutSeconds=1"))) == 2


def test_a_watch_from_a_version_that_is_forgotten_says_so_and_ends(api: ApiServer) -> None:
    for number in range(1001):
        label(api, "carp-1", str(number))
    events = list(watched(api, "resourceVersion=1"))
    assert [(event["type"], event["object"]["code"]) for event in events] == [("ERROR", 410)]


def test_closing_it_ends_connections_and_watches() -> None:
    with ApiServer() as api:
        connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=30)
        connection.request("GET", "/api")
        connection.getresponse().read()
        api.store.create("demo", {"metadata": {"name": "a"}})
        events = watched(api, "")
        assert next(events)["type"] == "ADDED"
    assert list(events) == []
    connection.close()


def official(api: ApiServer, path: Path, use: Any) -> Any:
    async def run() -> Any:
        configuration = client.Configuration()
        kubeconfig = api.write_kubeconfig(path / "kubeconfig", namespace="demo")
        await config.load_kube_config(config_file=str(kubeconfig), client_configuration=configuration)
        async with client.ApiClient(configuration) as connection:
            return await use(client.CoreV1Api(connection))

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (MERGE, {"metadata": {"labels": {"carp-role": "master"}}}),
        (STRATEGIC, {"metadata": {"labels": {"carp-role": "master"}}}),
        (JSON_PATCH, [{"op": "add", "path": "/metadata/labels/carp-role", "value": "master"}]),
    ],
)
def test_the_official_client_patches_and_lists(api: ApiServer, tmp_path: Path, kind: str, body: Any) -> None:
    async def use(core: Any) -> tuple[str, list[str]]:
        patched = await core.patch_namespaced_pod("carp-1", "demo", body, _content_type=kind)
        listed = await core.list_namespaced_pod("demo", label_selector="carp-role=master")
        return patched.metadata.labels["carp-role"], [pod.metadata.name for pod in listed.items]

    assert official(api, tmp_path, use) == ("master", ["carp-1"])


def test_the_official_client_is_told_of_a_conflict(api: ApiServer, tmp_path: Path) -> None:
    async def use(core: Any) -> tuple[int, str]:
        with pytest.raises(client.ApiException) as caught:
            await core.patch_namespaced_pod(
                "carp-1", "demo", {"metadata": {"resourceVersion": "1", "labels": {"a": "b"}}}, _content_type=MERGE
            )
        return caught.value.status, json.loads(caught.value.body)["reason"]

    assert official(api, tmp_path, use) == (409, "Conflict")


def test_the_official_client_watches(api: ApiServer, tmp_path: Path) -> None:
    async def use(core: Any) -> list[tuple[str, str]]:
        seen = []
        async with watch.Watch().stream(core.list_namespaced_pod, "demo", timeout_seconds=1) as stream:
            async for event in stream:
                seen.append((event["type"], event["object"].metadata.name))
        return seen

    assert official(api, tmp_path, use) == [("ADDED", "carp-1"), ("ADDED", "carp-2")]


@pytest.fixture
def kubectl(api: ApiServer, tmp_path: Path) -> Any:
    program = shutil.which("kubectl")
    if program is None:
        pytest.skip("NO KUBECTL, so the stand-in is not tested with it")
    kubeconfig = api.write_kubeconfig(tmp_path / "kubeconfig", namespace="demo")
    command = [program, "--kubeconfig", str(kubeconfig), "--cache-dir", str(tmp_path / "cache")]

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        # No proxy of the user's on the way to loopback.
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
        return subprocess.run(
            [*command, *arguments], check=False, capture_output=True, text=True, timeout=60, env=environment
        )

    return run


def test_kubectl_gets_labels_and_describes_pods(kubectl: Any) -> None:
    assert kubectl("label", "pod", "carp-2", "carp-role=master").stdout == "pod/carp-2 labeled\n"
    lines = kubectl("get", "pods", "-l", "carp-role=master", "-L", "carp-role").stdout.splitlines()
    assert lines[0].split() == ["NAME", "READY", "STATUS", "RESTARTS", "AGE", "CARP-ROLE"]
    assert [line.split()[0] for line in lines[1:]] == ["carp-2"]
    assert lines[1].split()[-1] == "master"
    wide = kubectl("get", "pods", "-o", "wide").stdout.splitlines()
    assert [line.split()[6] for line in wide] == ["NODE", "node-1", "node-2"]
    assert "  name: carp-1\n" in kubectl("get", "pod", "carp-1", "-o", "yaml").stdout
    assert "Node:         node-1/\n" in kubectl("describe", "pod", "carp-1").stdout


def test_kubectl_watches(api: ApiServer, kubectl: Any) -> None:
    label(api, "carp-1", "master")
    # Ends by itself once the condition is there, which it learns from a watch.
    ready = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    ask(api, "PATCH", f"{PODS}/carp-1/status", ready, kind=MERGE)
    assert kubectl("wait", "pod", "-l", "carp-role=master", "--for=condition=Ready", "--timeout=30s").returncode == 0
    assert kubectl("get", "pods", "-w", "--request-timeout=2s").stdout.splitlines()[1].startswith("carp-1 ")


def test_kubectl_is_told_what_is_wrong(kubectl: Any) -> None:
    assert kubectl("get", "pod", "none").stderr == 'Error from server (NotFound): pods "none" not found\n'
    assert "doesn't have a resource type" in kubectl("get", "nodes").stderr
