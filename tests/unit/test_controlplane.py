from __future__ import annotations

import socket
from pathlib import Path

import pytest

from sidecar.demo.controlplane import Assets, ControlPlane, ControlPlaneError, find_assets, free_port


def programs(folder: Path, *names: str, script: str = "#!/bin/sh\n") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)
    return folder


def environment(home: Path, **more: Path) -> dict[str, str]:
    """One in which nothing of this machine is found."""
    return {"HOME": str(home), "PATH": str(home / "bin"), **{name: str(path) for name, path in more.items()}}


def test_nothing_there_is_none(tmp_path: Path) -> None:
    assert find_assets(environment(tmp_path)) is None


def test_the_newest_version_in_the_cache_and_etcd_on_the_path(tmp_path: Path) -> None:
    etcd = programs(tmp_path / "bin", "etcd") / "etcd"
    cache = tmp_path / ".cache/carp-sidecar"
    programs(cache / "kubernetes-1.9.10", "kube-apiserver", "kube-controller-manager")
    newest = programs(cache / "kubernetes-1.10.2", "kube-apiserver", "kube-controller-manager")
    programs(cache / "kubernetes-1.11.0", ".building")  # a build that was interrupted

    found = find_assets(environment(tmp_path))

    assert found == Assets(newest / "kube-apiserver", etcd, newest / "kube-controller-manager")


def test_the_cache_is_where_the_build_puts_it(tmp_path: Path) -> None:
    built = programs(tmp_path / "c" / "carp-sidecar" / "kubernetes-1.36.2", "kube-apiserver", "etcd")

    found = find_assets(environment(tmp_path, XDG_CACHE_HOME=tmp_path / "c"))

    assert found == Assets(built / "kube-apiserver", built / "etcd", None)


def test_ready_binaries_are_taken_before_all_else_and_without_a_foreign_controller_manager(tmp_path: Path) -> None:
    programs(tmp_path / "bin", "etcd")
    programs(tmp_path / ".cache/carp-sidecar/kubernetes-1.36.2", "kube-apiserver", "kube-controller-manager", "etcd")
    given = programs(tmp_path / "assets", "kube-apiserver", "etcd")

    found = find_assets(environment(tmp_path, KUBEBUILDER_ASSETS=given))

    assert found == Assets(given / "kube-apiserver", given / "etcd", None)


def test_a_file_that_can_not_be_run_is_not_taken(tmp_path: Path) -> None:
    given = programs(tmp_path / "assets", "kube-apiserver", "etcd")
    (given / "etcd").chmod(0o644)
    assert find_assets(environment(tmp_path, KUBEBUILDER_ASSETS=given)) is None


def test_a_free_port_can_be_bound_and_is_none_that_the_kernel_gives_to_clients() -> None:
    first_of_clients = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    if first_of_clients <= 11_000:
        pytest.skip("this kernel gives almost every port to clients: see net.ipv4.ip_local_port_range")
    ports = {free_port() for _ in range(100)}
    assert max(ports) < first_of_clients
    with socket.create_server(("127.0.0.1", ports.pop())):
        pass


def test_a_program_that_fails_is_named_with_its_last_words_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    programs(tmp_path, "kube-apiserver", script="#!/bin/sh\nexec sleep 1000\n")
    programs(tmp_path, "etcd", script="#!/bin/sh\necho disk is full; exit 3\n")
    plane = ControlPlane(Assets(tmp_path / "kube-apiserver", tmp_path / "etcd", None))

    with pytest.raises(ControlPlaneError) as failure:
        plane.start()

    assert str(failure.value) == "etcd ended with exit code 3; its last lines:\ndisk is full"
    assert list((tmp_path / "tmp").iterdir()) == []
    with pytest.raises(ControlPlaneError, match=r"call start\(\) first"):
        plane.stop_apiserver()
    plane.stop()  # harmless


def test_a_controller_manager_that_is_not_there_is_said_before_anything_starts(tmp_path: Path) -> None:
    plane = ControlPlane(Assets(tmp_path / "kube-apiserver", tmp_path / "etcd", None), controller_manager=True)
    with pytest.raises(ControlPlaneError, match="has no kube-controller-manager"):
        plane.start()
