"""The readers of the machine, on files as Linux writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.doctor.host import cpu_cores


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


@pytest.mark.parametrize(("limit", "cores"), [("max 100000", None), ("50000 100000", 0.5), ("400000 100000", 4.0)])
def test_the_cpu_limit_of_cgroup_v2(tmp_path: Path, limit: str, cores: float | None) -> None:
    write(tmp_path / "pod/container", cpu__max=limit)
    write(tmp_path / "pod", cpu__max="max 100000")
    assert cpu_cores("0::/pod/container\n", tmp_path) == cores


def test_the_tightest_of_the_limits_above_counts(tmp_path: Path) -> None:
    write(tmp_path / "pod/container", cpu__max="200000 100000")
    write(tmp_path / "pod", cpu__max="150000 100000")
    assert cpu_cores("0::/pod/container\n", tmp_path) == 1.5


def test_in_a_namespace_of_its_own_the_container_sees_its_limit_at_the_root(tmp_path: Path) -> None:
    write(tmp_path, cpu__max="30000 100000")
    assert cpu_cores("0::/\n", tmp_path) == 0.3
    assert cpu_cores("0::/../../elsewhere\n", tmp_path) == 0.3


@pytest.mark.parametrize(("quota", "cores"), [("-1", None), ("25000", 0.25)])
@pytest.mark.parametrize("mount", ["cpu,cpuacct", "cpu"])
def test_the_cpu_limit_of_cgroup_v1(tmp_path: Path, quota: str, cores: float | None, mount: str) -> None:
    write(tmp_path / mount / "pod", cpu__cfs_quota_us=f"{quota}\n", cpu__cfs_period_us="100000\n")
    lines = "5:memory:/pod\n3:cpu,cpuacct:/pod\n0::/\n"
    assert cpu_cores(lines, tmp_path) == cores


def test_no_limit_is_known_where_nothing_is_mounted(tmp_path: Path) -> None:
    assert cpu_cores("3:cpu:/pod\n0::/pod\n", tmp_path) is None
