"""The benchmark's two nodes: their settings are valid, and a short run measures what it should."""

from __future__ import annotations

import pytest
import yaml

from bench.load import Load, measure, settings_of
from sidecar.config import document


def test_the_settings_name_every_group_of_every_interface_once() -> None:
    settings = yaml.safe_load(settings_of(Load(groups=255, interfaces=4)))
    groups = settings["groups"]
    assert len(groups) == 1020
    for unique in ("name", "vips"):
        assert len({str(group[unique]) for group in groups}) == 1020
    assert {(group["interface"], group["vhid"]) for group in groups} == {
        (f"nic{interface}", vhid) for interface in range(4) for vhid in range(1, 256)
    }
    document.parse(settings_of(Load(groups=255, interfaces=4)).encode())  # it is not too long


def test_the_rate_is_what_carp_makes_of_advbase_and_advskew() -> None:
    assert [load.rate for load in (Load(groups=1), Load(groups=1, advbase=0, advskew=4))] == [1.0, 64.0]


@pytest.mark.netns
@pytest.mark.usefixtures("real_kernel")
def test_a_short_run_of_few_groups() -> None:
    load = Load(groups=2, interfaces=2, advbase=0, advskew=64)
    result = measure(load, seconds=1.0, settle=0.0)
    assert result.load.every == 4
    assert result.memory.keys() == result.master.keys() == result.backup.keys() == {"parent", "engine", "agent"}
    assert all(megabytes > 1 for megabytes in result.memory.values())
    assert result.master["engine"] > 0
    assert result.adverts > 4
    assert result.lag.count > 0
