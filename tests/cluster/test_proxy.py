"""A proxy between the mirror and a real API server that delays, cuts, truncates and answers errors."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from sidecar.demo.controlplane import ControlPlane
from tests.cluster.agents import Api, node, running, until
from tests.cluster.conftest import rules_of
from tests.fakes.proxy import Fault, opened

pytestmark = pytest.mark.cluster

STORIES = st.lists(
    st.tuples(st.sampled_from(Fault), st.sampled_from([0.0, 0.0, 0.1]), st.sampled_from([0.05, 0.3, 0.8])),
    min_size=1,
    max_size=4,
)


@pytest.fixture
def token(control_plane: ControlPlane, namespace: str) -> str:
    return control_plane.admin.create_account(namespace, "carp", rules=rules_of("mirror"))


def test_whatever_the_way_does_the_label_follows_once_it_is_whole_and_nothing_spins(
    control_plane: ControlPlane, namespace: str, token: str, tmp_path: Path
) -> None:
    api = Api(control_plane.admin, namespace)
    asyncio.run(api.create_pod("a", "10.1.0.1"))
    lags: list[float] = []

    @settings(
        max_examples=12,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
        phases=[Phase.explicit, Phase.generate],  # a failure takes a minute; the story as it is tells enough
    )
    @example(story=[(Fault.UNAUTHORIZED, 0.1, 0.3), (Fault.UNAUTHORIZED, 0.1, 0.3)])
    @example(story=[(Fault.NONE, 0.0, 0.3), (Fault.UNAUTHORIZED, 0.1, 0.3)])
    @given(story=STORIES)
    def told(story: list[tuple[Fault, float, float]]) -> None:
        async def play() -> None:
            async with opened(control_plane.admin.access) as proxy:
                a = node("a", namespace, proxy.kubeconfig(tmp_path / "config", token))
                a.transitions = time.time_ns()
                async with running([a]):
                    a.is_now("backup", "start")
                    await until(api.masters_are, "a backup")
                    began, tries = time.monotonic(), proxy.connections + proxy.requests
                    for fault, delay, seconds in story:
                        proxy.become(fault, delay=delay)
                        a.is_now("master", "master-down")
                        await asyncio.sleep(seconds)
                    spent = time.monotonic() - began
                    assert proxy.connections + proxy.requests - tries < 40 + 40 * spent
                    proxy.become(Fault.NONE)
                    back = time.monotonic()
                    await until(lambda: api.masters_are("a"), "the label")
                    lags.append(time.monotonic() - back)

        asyncio.run(play())

    told()
    median = sorted(lags)[len(lags) // 2]
    print(f"the label followed after {median:.2f} s (median), {max(lags):.2f} s at most")
    assert median < 2.0
