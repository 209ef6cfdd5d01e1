"""A real API server for the whole session, and a namespace of it for each test."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml

from sidecar.demo.controlplane import HOW_TO_GET_ASSETS, ControlPlane, find_assets

ROLE_RULES = Path(__file__).parents[2] / "charts/carp-sidecar/files/role-rules.yaml"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip by a mark what has no API server: pytest folds those into one line, and fixtures' skips into none."""
    if find_assets() is None:
        for item in items:
            if item.get_closest_marker("cluster"):
                item.add_marker(pytest.mark.skip(reason=reason_without("kube-apiserver and etcd")))


def reason_without(programs: str) -> str:
    return f"NO {programs.upper()}, so this is not tested: {HOW_TO_GET_ASSETS}"


def missing(programs: str) -> NoReturn:
    """Skip loudly at home, and fail in CI, as every skip does there."""
    pytest.skip(reason_without(programs))


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    assets = find_assets()
    if assets is None:
        missing("kube-apiserver and etcd")
    with ControlPlane(assets) as plane:
        yield plane


@pytest.fixture(scope="session")
def managed_plane() -> Iterator[ControlPlane]:
    """Another one, with the real controllers: of DaemonSets, of Jobs, of namespaces."""
    assets = find_assets()
    if assets is None or assets.controller_manager is None:
        missing("kube-controller-manager")
    with ControlPlane(assets, controller_manager=True) as plane:
        yield plane


@pytest.fixture
def namespace(control_plane: ControlPlane) -> Iterator[str]:
    """A fresh namespace on a server that is up. It stays, since only a controller could empty and delete it."""
    name = f"test-{secrets.token_hex(4)}"
    control_plane.admin.create_namespace(name)
    yield name
    control_plane.start_apiserver()  # a test that failed while it was down harms no other


@pytest.fixture(scope="session")
def role_rules() -> list[dict[str, Any]]:
    """The rules of the Role that the chart ships where no feature is turned on."""
    return rules_of("mirror", "events")


def rules_of(*features: str) -> list[dict[str, Any]]:
    """The rules that these features want."""
    rules: dict[str, list[dict[str, Any]]] = yaml.safe_load(ROLE_RULES.read_text())
    return [rule for feature in features for rule in rules[feature]]
