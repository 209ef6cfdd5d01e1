"""The kernel's word on a directory, with real files."""

from __future__ import annotations

import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.live.inotify import Inotify


@pytest.fixture
def inotify() -> Iterator[Inotify]:
    made = Inotify()
    yield made
    made.close()


def told(inotify: Inotify) -> bool:
    """Whether something has been told; events are there when the call that made them returns."""
    there = bool(select.select([inotify.fileno()], [], [], 0)[0])
    inotify.drain()
    return there


def test_what_changes_a_file_is_told_and_reading_it_is_not(inotify: Inotify, tmp_path: Path) -> None:
    file = tmp_path / "file"
    assert inotify.watch(frozenset({str(tmp_path)})) == frozenset()
    assert not told(inotify)
    file.write_text("a")
    assert told(inotify)
    file.read_text()
    assert not told(inotify)
    with file.open("a") as opened:
        opened.write("b")
        opened.flush()
        assert not told(inotify)  # it is being written
    assert told(inotify)
    file.chmod(0o600)
    assert told(inotify)
    file.rename(tmp_path / "other")
    assert told(inotify)
    (tmp_path / "other").unlink()
    assert told(inotify)
    (tmp_path / "link").symlink_to("nowhere")
    assert told(inotify)
    tmp_path.rename(tmp_path.with_name("moved"))
    assert told(inotify)


def test_directories_that_are_no_longer_wanted_say_nothing(inotify: Inotify, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for directory in (first, second):
        directory.mkdir()
    inotify.watch(frozenset({str(first), str(second)}))
    inotify.watch(frozenset({str(second)}))
    told(inotify)
    (first / "x").touch()
    assert not told(inotify)
    (second / "x").touch()
    assert told(inotify)
    second.joinpath("x").unlink()
    second.rmdir()
    inotify.watch(frozenset())


def test_what_cannot_be_listened_to_is_returned(inotify: Inotify, tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    file = tmp_path / "file"
    file.touch()
    assert inotify.watch(frozenset({missing, str(file), str(tmp_path)})) == {missing, str(file)}
