"""The agent's process, from exec to exit, with us as its parent and the stand-in for an API server."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from sidecar.children import Child, spawn
from sidecar.demo.apiserver import ApiServer
from sidecar.demo.store import Target
from sidecar.ipc.messages import (
    GroupRole,
    Labelled,
    MirroredGroup,
    Probed,
    Released,
    Snapshot,
    StandAside,
    StartAgent,
    StatusRequest,
    Stop,
    Unavailable,
    YieldLabels,
)
from sidecar.ipc.plan import KubernetesPlan, ProbeKind, ProbePlan
from tests.fakes.statuses import status_reply
from tests.netns.peers import until

GROUP = MirroredGroup(name="web", interface="eth0", vhid=42, vips=("10.0.0.200/32",))
ROLES = Snapshot(
    groups=(GroupRole(name="web", role="master", since=1795408808.068, reason="master-down", transitions=2),)
)


@pytest.fixture
def api() -> Iterator[ApiServer]:
    with ApiServer() as server:
        server.store.create("edge", {"metadata": {"name": "carp-1", "labels": {"app": "carp"}}})
        yield server


@contextlib.contextmanager
def running(kubeconfig: Path | None = None) -> Iterator[Child]:
    """An agent, which is told to start where a kubeconfig is given. In the test itself, so that capfd hears it."""
    agent = spawn("agent", ["info", "json"], now=0.0)
    if kubeconfig is not None:
        plan = KubernetesPlan(
            pod_name="carp-1", pod_namespace="edge", role_label="carp-role", kubeconfig=str(kubeconfig)
        )
        agent.channel.send(StartAgent(node="node-1", kubernetes=plan, groups=(GROUP,)))
    try:
        yield agent
    finally:
        agent.kill()
        agent.channel.close()
        agent.process.wait()


def pod(api: ApiServer) -> dict[str, Any]:
    metadata: dict[str, Any] = api.store.get(Target("edge", "carp-1"))["metadata"]
    return metadata


def messages(capfd: pytest.CaptureFixture[str]) -> list[str]:
    return [json.loads(line)["message"] for line in capfd.readouterr().err.splitlines()]


def test_it_writes_the_newest_roles_and_ends_when_told(api: ApiServer, tmp_path: Path) -> None:
    with running(api.write_kubeconfig(tmp_path / "config")) as agent:
        agent.channel.send(ROLES)
        agent.channel.send(Stop())
        assert agent.process.wait(60) == 0
    metadata = pod(api)
    assert metadata["labels"] == {"app": "carp", "carp-role": "master"}
    assert metadata["annotations"] == {
        "carp-sidecar/vips": "10.0.0.200/32",
        "carp-sidecar/vhid": "42",
        "carp-sidecar/interface": "eth0",
        "carp-sidecar/since": "2026-11-23T04:40:08.068Z",
        "carp-sidecar/transitions": "2",
        "carp-sidecar/reason": "master-down",
        "carp-sidecar/epoch": "1",
    }


def test_a_node_that_lets_go_says_so_before_it_does_and_master_again_if_nobody_took_over(
    api: ApiServer, tmp_path: Path
) -> None:
    with running(api.write_kubeconfig(tmp_path / "config")) as agent:
        agent.channel.socket.settimeout(60)
        agent.channel.send(ROLES)
        until(lambda: pod(api)["labels"].get("carp-role") == "master", "it is master")
        epoch = pod(api)["annotations"]["carp-sidecar/epoch"]
        assert agent.channel.receive() == (StandAside(groups=(), word=""), []), "nobody asks for it"
        agent.channel.send(YieldLabels(groups=("web",)))
        assert agent.channel.receive() == (Labelled(), [])
        said = pod(api)
        assert (said["labels"]["carp-role"], said["annotations"]["carp-sidecar/reason"]) == ("backup", "draining")
        agent.channel.send(YieldLabels(groups=()))
        until(lambda: pod(api)["labels"]["carp-role"] == "master", "it goes on")
        assert pod(api)["annotations"]["carp-sidecar/epoch"] == epoch, "no new mastership"
        agent.channel.send(Stop())
        assert agent.process.wait(60) == 0


def test_with_nothing_to_say_it_writes_nothing(api: ApiServer, tmp_path: Path) -> None:
    before = pod(api)
    with running(api.write_kubeconfig(tmp_path / "config")) as agent:
        agent.channel.send(Stop())
        assert agent.process.wait(60) == 0
    assert pod(api) == before


def test_signals_are_the_parents_business(api: ApiServer, tmp_path: Path) -> None:
    with running(api.write_kubeconfig(tmp_path / "config")) as agent:
        agent.channel.send(ROLES)
        until(lambda: "carp-role" in pod(api)["labels"], "it writes, so it has set itself up")
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            agent.process.send_signal(number)
        agent.channel.send(Stop())
        assert agent.process.wait(60) == 0


def test_a_kubeconfig_may_come_later_and_is_complained_about_once(
    api: ApiServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []

    def hears_something() -> bool:
        said.extend(message for message in messages(capfd) if not message.startswith("Config not found"))
        return bool(said)

    with running(tmp_path / "config") as agent:
        agent.channel.send(ROLES)
        until(hears_something, "it complains")
        api.write_kubeconfig(tmp_path / "new").rename(tmp_path / "config")
        agent.channel.send(Stop())
        assert agent.process.wait(60) == 0
    hears_something()
    assert said[0].startswith(f"cannot read KUBECONFIG {tmp_path}/config: ")
    assert said[1:] == ["Kubernetes is told of everything again"]
    assert pod(api)["labels"]["carp-role"] == "master"


def test_without_its_parent_it_ends(api: ApiServer, tmp_path: Path) -> None:
    with running(api.write_kubeconfig(tmp_path / "config")) as agent:
        agent.channel.close()
        assert agent.process.wait(60) == 1


def test_another_beginning_is_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    with running() as agent:
        agent.channel.send(Stop())
        assert agent.process.wait(60) == 1
    assert messages(capfd) == ["the parent began with a Stop"]


def test_what_is_not_for_the_agent_is_logged_and_ignored(
    api: ApiServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with running(api.write_kubeconfig(tmp_path / "config")) as agent:
        agent.channel.send(Released(group="web"))
        agent.channel.send(Stop())
        assert agent.process.wait(60) == 0
    assert messages(capfd) == ["the parent sent a Released, which is not for the agent"]


def test_nonsense_is_the_end(api: ApiServer, tmp_path: Path) -> None:
    with running(api.write_kubeconfig(tmp_path / "config")) as agent:
        agent.channel.socket.send(b"\1nonsense")
        assert agent.process.wait(60) == 1


# The listener --------------------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def listening(kubeconfig: Path | None = None) -> Iterator[tuple[Child, int]]:
    """An agent with a listener, and with the mirror where a kubeconfig is given."""
    port = free_port()
    plan = (
        None
        if kubeconfig is None
        else KubernetesPlan(pod_name="carp-1", pod_namespace="edge", role_label="carp-role", kubeconfig=str(kubeconfig))
    )
    with running() as agent:
        agent.channel.send(
            StartAgent(
                node="node-1", kubernetes=plan, groups=(GROUP,), http_listen=f"127.0.0.1:{port}", pod="edge/carp-1"
            )
        )
        until(lambda: get(port, "/") is not None, "it listens")
        yield agent, port


def get(port: int, path: str) -> tuple[int, str] | None:
    try:
        with socket.create_connection(("127.0.0.1", port), 60) as sock:
            sock.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
            with sock.makefile("r", newline="") as file:
                head, _, body = file.read().partition("\r\n\r\n")
    except ConnectionError:
        return None
    return int(head.split()[1]), body


def asked(agent: Child) -> StatusRequest:
    """Wait for the agent's question."""
    agent.channel.socket.settimeout(60)
    received = agent.channel.receive()
    assert received is not None
    assert isinstance(received[0], StatusRequest)
    return received[0]


def loaded(agent: Child, library: str) -> bool:
    return library in Path(f"/proc/{agent.process.pid}/maps").read_text()


def test_the_listener_tells_what_the_parent_answers_and_without_kubernetes_its_client_is_not_loaded() -> None:
    with listening() as (agent, port), ThreadPoolExecutor() as pool:
        assert get(port, "/readyz?daemonset=other/carp") == (
            503,
            "edge/carp-1 answers at this port: give each sidecar on this node its own, by CARP_HTTP_LISTEN\n",
        )
        agent.channel.send(ROLES)  # for a mirror, which there is none of
        answer = pool.submit(get, port, "/status")
        agent.channel.send(status_reply(token=asked(agent).token))
        assert answer.result(60) is not None
        status, body = answer.result(60) or (0, "")
        assert (status, json.loads(body)["node"], json.loads(body)["mirror"]) == (200, "node-1", None)
        assert loaded(agent, "aiohttp")
        assert not loaded(agent, "pydantic")
        assert not loaded(agent, "yaml")
        agent.channel.send(Stop())
        assert agent.process.wait(60) == 0


def test_an_engine_that_is_gone_is_unhealthy_in_the_parents_words() -> None:
    with listening() as (agent, port), ThreadPoolExecutor() as pool:
        answer = pool.submit(get, port, "/healthz")
        asked(agent)
        agent.channel.send(Unavailable(why="the engine is not running; it starts again in 2 s"))
        assert answer.result(60) == (503, "the engine is not running; it starts again in 2 s\n")


def test_health_does_not_depend_on_the_api_server(tmp_path: Path) -> None:
    with listening(tmp_path / "no-such-kubeconfig") as (agent, port), ThreadPoolExecutor() as pool:
        agent.channel.send(ROLES)
        answer = pool.submit(get, port, "/healthz")
        agent.channel.send(status_reply(token=asked(agent).token))
        assert answer.result(60) == (200, "ok\n")


def test_without_its_parent_a_listener_ends_too() -> None:
    with listening() as (agent, _):
        agent.channel.close()
        assert agent.process.wait(60) == 1


def test_the_pods_of_the_group_are_listed_with_their_roles(api: ApiServer, tmp_path: Path) -> None:
    labels = {"app": "carp", "carp-role": "backup"}
    api.store.create("edge", {"metadata": {"name": "carp-2", "labels": labels}})
    api.store.create("edge", {"metadata": {"name": "other", "labels": {"app": "other"}}})
    with listening(api.write_kubeconfig(tmp_path / "config")) as (agent, port):
        agent.channel.send(ROLES)
        until(lambda: "carp-role" in pod(api)["labels"], "the role is written")
        status, body = get(port, "/pods") or (0, "{}")
        listed = json.loads(body)
        assert (status, listed["error"]) == (200, "")
        assert [(each["name"], each["roles"]) for each in listed["pods"]] == [
            ("carp-1", {"web": "master"}),
            ("carp-2", {"web": "backup"}),
        ]


def heard(agent: Child) -> object:
    """Return the next message of the agent."""
    agent.channel.socket.settimeout(60)
    received = agent.channel.receive()
    return None if received is None else received[0]


def test_it_probes_with_neither_mirror_nor_listener_and_tells_changes_only(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    probes = (
        ProbePlan(name="ready", kind=ProbeKind.FILE, target=(str(ready),), interval=0.1, rise=1, fall=1),
        ProbePlan(
            name="exec", kind=ProbeKind.EXEC, target=("/bin/test", "-e", str(ready)), interval=0.1, rise=1, fall=1
        ),
        ProbePlan(name="app", kind=ProbeKind.CONTAINER, target=("app",), interval=0.1),
    )
    with running() as agent:
        agent.channel.send(StartAgent(node="node-1", kubernetes=None, groups=(GROUP,), health=probes))
        missing = f"{ready} is not there: no such file or directory"
        told = [heard(agent), heard(agent)]
        assert told[1] == Probed(failing={0: missing, 1: "/bin/test ended with exit code 1"})
        ready.touch()
        told += [heard(agent), heard(agent)]
        assert told[3] == Probed(failing={})
        assert all(before != after for before, after in pairwise(told)), "whichever probe is heard first"
        agent.channel.send(Stop())
        assert agent.process.wait(60) == 0


def test_it_goes_on_from_what_its_predecessor_found(tmp_path: Path) -> None:
    probe = ProbePlan(name="x", kind=ProbeKind.FILE, target=(str(tmp_path),), interval=0.1, rise=2)
    with running() as agent:
        agent.channel.send(
            StartAgent(node="n", kubernetes=None, groups=(GROUP,), health=(probe,), failing={0: "it hung"})
        )
        assert heard(agent) == Probed(failing={}), "the first thing to tell is that it is well again"
