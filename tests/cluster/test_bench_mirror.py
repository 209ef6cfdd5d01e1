"""The bench sees what it is there to see: few agents, a few failovers, and no figure left out."""

from __future__ import annotations

import pytest

from bench.mirror.measure import Size, measure
from bench.mirror.requests import writes
from sidecar.demo.controlplane import ControlPlane

pytestmark = pytest.mark.cluster


def test_a_short_run_of_few_agents(control_plane: ControlPlane) -> None:
    result = measure(control_plane, Size(agents=5, processes=2, seconds=1.0, failovers=2, renewals=5))
    assert result.start.requests["PATCH pods"] >= 5
    assert result.start.requests["LIST pods"] >= 5 + 1  # and the master's of its group
    assert result.watches["pods"] == 5 + 2  # and the bench's own
    assert writes(result.steady.requests) == {}
    assert len(result.failovers) == 2
    assert result.failover.requests["PATCH pods"] >= 2 * 3
    assert result.memory.keys() == {"backup", "master"}
    assert all(megabytes > 10 for megabytes in result.memory.values())
    assert result.update.requests["PUT leases"] >= 5
    assert result.get.requests["GET leases"] == 5
    for used in (result.empty, result.start, result.steady, result.failover, result.update, result.get):
        assert used.cpu.keys() == {"etcd", "kube-apiserver"}
        assert used.seconds > 0
