"""Standing aside, on a real API server and a real LAN: who takes over is another one, and nothing else changes."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from sidecar.demo.controlplane import ControlPlane
from sidecar.demo.lan import Lan
from sidecar.rollout.plan import Ask
from tests.cluster.test_node import Site
from tests.netns.peers import role, until
from tests.unit.test_rollout_plan import pod

pytestmark = [pytest.mark.cluster, pytest.mark.netns]


def test_the_better_backup_stands_aside_when_its_master_goes_and_for_no_longer(
    lan: Lan, control_plane: ControlPlane, namespace: str, role_rules: list[dict[str, Any]], tmp_path: Path
) -> None:
    admin = control_plane.admin
    word = Ask(pod("node-1"), ("carp-role",), (pod("node-2"),), "r-1").word
    site = Site(control_plane, namespace)

    def ask(name: str) -> None:
        said = {"metadata": {"annotations": {"carp-sidecar/stand-aside": word}}}
        admin.request("PATCH", f"/api/v1/namespaces/{namespace}/pods/{name}/status", said)
        until(lambda: answer(name) == word, f"{name} has answered")

    def answer(name: str) -> str | None:
        found: dict[str, str] = admin.get_pod(namespace, name)["metadata"].get("annotations", {})
        return found.get("carp-sidecar/stands-aside")

    with ExitStack() as stack:
        site.add(lan.nodes[:3], tmp_path, role_rules, stack)
        first, second, third = site.sidecars
        for sidecar in site.sidecars:
            sidecar.start()
            until(lambda: role(first) == "master", "the preferred one leads")
        until(lambda: (role(second), role(third)) == ("backup", "backup"), "the others follow")

        ask(first.node.name)
        ask(second.node.name)
        until(lambda: site.demotions(1) == {"stand-aside": "a rollout goes on"}, "the second stands aside")
        assert site.demotions(0) == {}, "a master does not"
        assert [role(each) for each in site.sidecars] == ["master", "backup", "backup"], "and nothing has moved"

        before = second.group().transitions
        assert first.terminate() == 0
        until(lambda: role(third) == "master", "the third takes over, whose advskew is worse")
        assert f"{third.node.address} is master now" in first.log
        assert second.group().transitions == before, "the second never stood up, though it preempts"

        assert third.terminate() == 0
        until(lambda: role(second) == "master", "it takes over where nobody else is left")
        until(lambda: site.demotions(1) == {}, "and is as good a master as any")
