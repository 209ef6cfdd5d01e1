"""Files that settings came from: every way in which they change is noticed once, when it is over."""

from __future__ import annotations

import math
import os
import select
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sidecar.live import watched
from sidecar.live.stamp import stamp
from sidecar.live.watched import SETTLE, Files, directories
from tests.fakes.mount import Mount


class Scene:
    """Files that are listened to, with the clock in the test's hand."""

    def __init__(self) -> None:
        self.now = 100.0
        self.changes = 0
        self.files = Files(self._note, clock=lambda: self.now)
        self.fd: int | None = None

    def _note(self) -> None:
        self.changes += 1

    def begin(self, *paths: Path) -> None:
        self.fd = self.files.begin({str(path): stamp(str(path)) for path in paths})

    def noticed(self) -> int:
        """Serve what there is until nothing is due; return how many changes were told since the last call."""
        assert self.fd is not None
        while select.select([self.fd], [], [], 0)[0] or self.files.next() < math.inf:
            if select.select([self.fd], [], [], 0)[0]:
                self.files.heard()
            self.now = max(self.now, self.files.next())
            self.files.tick(self.now)
        told, self.changes = self.changes, 0
        return told


@pytest.fixture
def scene() -> Iterator[Scene]:
    made = Scene()
    yield made
    made.files.close()


def test_the_swap_of_a_configmap_is_one_change(scene: Scene, tmp_path: Path) -> None:
    mount = Mount(tmp_path / "mount")
    mount.put(config="a")
    file = tmp_path / "mount" / "config"
    scene.begin(file)
    assert scene.noticed() == 0
    for _ in range(3):
        mount.put(config="a")  # the same text: whoever judges it finds that nothing has changed
        assert scene.noticed() == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda file: file.write_text("other"),
        lambda file: (file.with_name("new").write_text("other"), file.with_name("new").rename(file)),
        lambda file: file.unlink(),
        lambda file: file.chmod(0o700),
    ],
    ids=["written", "renamed over", "deleted", "made executable"],
)
def test_a_plain_file_that_changes_is_noticed(scene: Scene, tmp_path: Path, change: Callable[[Path], object]) -> None:
    file = tmp_path / "file"
    file.write_text("text")
    scene.begin(file)
    change(file)
    assert scene.noticed() == 1
    assert scene.noticed() == 0


def test_what_happens_to_others_in_the_directory_is_no_change(scene: Scene, tmp_path: Path) -> None:
    scene.begin(tmp_path / "file")
    (tmp_path / "another").write_text("x")
    assert scene.noticed() == 0


def test_a_file_whose_directories_come_later_is_noticed_and_again_when_they_are_made_anew(
    scene: Scene, tmp_path: Path
) -> None:
    file = tmp_path / "etc" / "carp" / "config"
    scene.begin(file)
    for _ in range(2):
        file.parent.parent.mkdir()
        assert scene.noticed() == 0
        file.parent.mkdir()
        assert scene.noticed() == 0
        file.write_text("x")
        assert scene.noticed() == 1
        file.unlink()
        assert scene.noticed() == 1
        file.parent.rmdir()
        file.parent.parent.rmdir()
        assert scene.noticed() == 0


def test_where_a_link_leads_to_is_listened_to_as_well(scene: Scene, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere" / "target"
    target.parent.mkdir()
    target.write_text("x")
    link = tmp_path / "here" / "link"
    link.parent.mkdir()
    link.symlink_to(target)
    assert directories(str(link)) == {str(link.parent), str(target.parent)}
    scene.begin(link)
    target.write_text("other")
    assert scene.noticed() == 1


def test_nothing_is_said_while_a_file_does_not_stand_still(scene: Scene, tmp_path: Path) -> None:
    file = tmp_path / "file"
    scene.begin(file)
    for number in range(5):
        file.write_text("x" * number)
        scene.files.heard()
        scene.now = scene.files.next()
        scene.files.tick(scene.now)
        assert (scene.changes, scene.files.next()) == (0, scene.now + SETTLE)
    scene.now = scene.files.next()
    scene.files.tick(scene.now)
    assert scene.changes == 1


def test_what_happened_since_a_file_was_read_counts(scene: Scene, tmp_path: Path) -> None:
    file, new = tmp_path / "file", tmp_path / "new"
    read = {str(file): stamp(str(file))}
    file.write_text("meanwhile")
    scene.fd = scene.files.begin(read)
    assert scene.noticed() == 1
    scene.files.follow({str(file): stamp(str(file)), str(new): ""})
    assert scene.noticed() == 0
    new.write_text("x")
    assert scene.noticed() == 1


def test_without_inotify_it_is_said_what_is_left(
    scene: Scene, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse() -> None:
        raise OSError(24, os.strerror(24))

    monkeypatch.setattr(watched, "Inotify", refuse)
    scene.begin(tmp_path / "file")
    assert scene.fd is None
    assert caplog.messages == ["changed settings are noticed at a SIGHUP only: inotify: Too many open files"]
    scene.files.follow({str(tmp_path / "file"): "another"})
    scene.files.heard()
    assert scene.files.next() == math.inf
