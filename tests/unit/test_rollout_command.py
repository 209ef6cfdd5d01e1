"""What the command prints and how it ends."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.rollout.command import Asked, run, to_json, to_text
from sidecar.rollout.steps import News
from tests.fakes.http import ScriptedServer
from tests.unit.test_rollout_cluster import daemonset, pod, revision

STORY = (
    News(event="replacing", node="node-b", pod="vip-x", master_of=()),
    News(event="replacing", node="node-a", pod="vip-y", master_of=("carp-role-db", "carp-role-web")),
    News(event="waiting", why="node-a: pod vip-z is not ready"),
    News(event="ready", node="node-a", pod="vip-z", replaced=2),
    News(
        event="done", replaced=2, moves=(("carp-role-db", 0, "n"), ("carp-role-web", 1, "n"), ("carp-role-x", 2, "m"))
    ),
)


def test_a_line_for_each_step() -> None:
    assert [to_text(news) for news in STORY] == [
        "node-b: replacing vip-x, no master",
        "node-a: replacing vip-y, master by carp-role-db, carp-role-web",
        "waiting: node-a: pod vip-z is not ready",
        "node-a: vip-z is ready, 2 replaced",
        "done: 2 replaced; carp-role-db moved never, master is n; carp-role-web moved once, master is n; "
        "carp-role-x moved 2 times, master is m",
    ]


def test_json_says_the_same() -> None:
    assert [json.loads(to_json(news)) for news in STORY] == [
        {"event": "replacing", "node": "node-b", "pod": "vip-x"},
        {"event": "replacing", "node": "node-a", "pod": "vip-y", "master_of": ["carp-role-db", "carp-role-web"]},
        {"event": "waiting", "why": "node-a: pod vip-z is not ready"},
        {"event": "ready", "node": "node-a", "pod": "vip-z", "replaced": 2},
        {
            "event": "done",
            "replaced": 2,
            "moves": {
                "carp-role-db": {"times": 0, "master": "n"},
                "carp-role-web": {"times": 1, "master": "n"},
                "carp-role-x": {"times": 2, "master": "m"},
            },
        },
    ]
    assert json.loads(to_json(News(event="done", replaced=0))) == {"event": "done", "replaced": 0}


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


def asked(kubeconfig: str, *, dry_run: bool = False) -> Asked:
    return Asked(
        namespace="carp",
        daemonset="vip",
        role_label="carp-role",
        kubeconfig=kubeconfig,
        patience=60.0,
        dry_run=dry_run,
        as_json=False,
    )


def ran(what: Asked) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    return run(what, out=out, err=err), out.getvalue(), err.getvalue()


def answers(server: ScriptedServer, *documents: object) -> None:
    server.answers.extend((200, json.dumps(document).encode()) for document in documents)


def test_a_dry_run_tells_the_order_and_asks_for_nothing_else(server: ScriptedServer, tmp_path: Path) -> None:
    old = {"controller-revision-hash": "old"}
    pods = [
        pod("vip-a", "node-a", {**old, "carp-role": "master"}),
        pod("vip-b", "node-b", {**old, "carp-role": "backup"}),
    ]
    answers(server, daemonset(), {"items": [revision("old", 1), revision("new", 2)]}, {"items": pods})
    assert ran(asked(server.kubeconfig(tmp_path / "config"), dry_run=True)) == (
        0,
        "node-b: would replace vip-b, no master\nnode-a: would replace vip-a, master by carp-role\n"
        "would be done: 2 replaced\n",
        "",
    )
    assert {request.method for request in server.requests} == {"GET"}


def test_what_stops_it_is_one_line_and_exit_code_1(server: ScriptedServer, tmp_path: Path) -> None:
    answers(server, daemonset(updateStrategy={"type": "RollingUpdate"}))
    code, out, err = ran(asked(server.kubeconfig(tmp_path / "config")))
    assert (code, out) == (1, "")
    assert err.startswith("carp-sidecar: rollout: DaemonSet carp/vip has updateStrategy RollingUpdate")
    assert err.count("\n") == 1


def test_a_kubeconfig_that_is_none_is_told(tmp_path: Path) -> None:
    code, _, err = ran(asked(str(tmp_path / "missing"), dry_run=True))
    assert code == 1
    assert f"cannot read KUBECONFIG {tmp_path / 'missing'}" in err
