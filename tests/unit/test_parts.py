"""Parts of packages without their ``__init__``: what is loaded, what is left, and what is said of wrong versions."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.parts import parts_of


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package whose ``__init__`` imports all of it, within one of the same kind."""
    inner = tmp_path / "heavy" / "inner"
    inner.mkdir(parents=True)
    (tmp_path / "heavy" / "__init__.py").write_text("from heavy import inner, rest\nWHOLE = True\n")
    (tmp_path / "heavy" / "rest.py").write_text("")
    (inner / "__init__.py").write_text("from heavy.inner import part, other\n")
    (inner / "part.py").write_text("from . import sibling\nvalue = sibling.value\nclass Part: pass\n")
    (inner / "sibling.py").write_text("value = 42\n")
    (inner / "other.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    yield "heavy"
    for name in loaded():
        del sys.modules[name]


def loaded() -> set[str]:
    return {name for name in sys.modules if name.split(".")[0] == "heavy"}


def part() -> object:
    with parts_of("heavy", "heavy.inner"):
        return importlib.import_module("heavy.inner.part")


def test_only_the_parts_are_loaded_and_nothing_else_is_left(package: str) -> None:
    assert getattr(part(), "value") == 42  # noqa: B009 - a module
    assert loaded() == {f"{package}.inner.part", f"{package}.inner.sibling"}


def test_the_whole_package_can_be_imported_later_and_has_the_same_parts(package: str) -> None:
    before = part()
    whole = importlib.import_module(package)
    assert whole.WHOLE
    assert whole.inner.part is before
    assert part() is before
    assert sys.modules[package] is whole


def test_parts_of_a_package_that_is_loaded_are_its_own(package: str) -> None:
    whole = importlib.import_module(package)
    assert part() is whole.inner.part
    assert sys.modules[package] is whole


@pytest.mark.parametrize("name", ["heavy", "pyroute2", "nonexistent"])
@pytest.mark.usefixtures("package")
def test_a_version_without_the_part_is_named_with_a_remedy(name: str) -> None:
    with pytest.raises(ImportError, match=rf"^this carp-sidecar cannot use {name} .*; install a version") as caught:  # noqa: SIM117
        with parts_of(name):
            importlib.import_module(f"{name}.gone")
    assert caught.value.name == f"{name}.gone" or name == "nonexistent"
    assert ("pyroute2>=" in str(caught.value)) is (name == "pyroute2")
    assert name not in loaded()
