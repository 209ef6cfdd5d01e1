"""Maintenance: what people are told, what the engine is told, and what stays over a restart."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sidecar.ipc.messages import Demote, Promote
from sidecar.maintenance import FILE_NAME, Maintenance, one_line

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


def demoted(reason: str) -> Demote:
    return Demote(name="maintenance", weight=240, detail=reason)


def restarted(directory: Path) -> Maintenance:
    maintenance = Maintenance(directory)
    maintenance.load()
    return maintenance


def test_it_begins_and_ends(tmp_path: Path) -> None:
    maintenance = restarted(tmp_path)
    assert maintenance.instruction() == Promote(name="maintenance")
    said = maintenance.begin("new disks")
    assert said == "maintenance begins: every group of this node yields to a node that can take over"
    assert maintenance.instruction() == demoted("new disks")
    assert re.fullmatch(rf"maintenance is over; it began {TIME} \(new disks\)", maintenance.end())
    assert maintenance.instruction() == Promote(name="maintenance")
    assert list(tmp_path.iterdir()) == []


def test_it_stays_over_a_restart(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    restarted(tmp_path).begin("new disks")
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]
    caplog.clear()
    maintenance = restarted(tmp_path)
    assert maintenance.instruction() == demoted("new disks")
    (said,) = caplog.messages
    assert re.fullmatch(rf"in maintenance since {TIME} \(new disks\)", said)
    maintenance.end()
    assert restarted(tmp_path).instruction() == Promote(name="maintenance")


def test_what_is_so_already_is_said(tmp_path: Path) -> None:
    maintenance = restarted(tmp_path)
    assert maintenance.end() == "this node is not in maintenance"
    maintenance.begin("")
    assert maintenance.instruction() == demoted("no reason given")
    already = rf"this node is in maintenance already, since {TIME} \(no reason given\)"
    assert re.fullmatch(already, maintenance.begin(""))
    said = maintenance.begin("new disks")
    assert said == "this node was in maintenance already, now for another reason: new disks"
    assert re.fullmatch(rf"this node is in maintenance already, since {TIME} \(new disks\)", maintenance.begin(""))
    assert restarted(tmp_path).instruction() == demoted("new disks")


BROKEN = [
    b"",
    b"\xff",
    b"yes",
    b"[]",
    b'{"reason":"x"}',
    b'{"since":"x","reason":"x"}',
    b'{"since":1e300,"reason":"x"}',
    b'{"since":1.0,"reason":"x"',
    b'{"since":1.0,"reason":"' + b"x" * 10_000 + b'"}',
]


@pytest.mark.parametrize("content", BROKEN)
def test_a_broken_file_is_ignored_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    file = tmp_path / FILE_NAME
    file.write_bytes(content)
    maintenance = restarted(tmp_path)
    assert maintenance.instruction() == Promote(name="maintenance")
    assert caplog.messages == [f"{file} does not hold what was written to it; this node counts as not in maintenance"]
    maintenance.end()
    assert not file.exists()


def test_a_file_that_cannot_be_read_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / FILE_NAME).mkdir()
    assert restarted(tmp_path).instruction() == Promote(name="maintenance")
    assert caplog.messages == [
        f"cannot read {tmp_path}/maintenance: Is a directory; this node counts as not in maintenance"
    ]


def test_where_nothing_can_be_written_it_holds_until_a_restart_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "run").write_text("")
    maintenance = restarted(tmp_path / "run")
    assert caplog.messages == []
    assert maintenance.begin("x").endswith(
        f"; but a restart of the sidecar will forget it, since {tmp_path}/run/maintenance cannot be written: "
        "Not a directory"
    )
    assert maintenance.instruction() == demoted("x")


def test_a_file_that_cannot_be_removed_brings_it_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    maintenance = restarted(tmp_path)
    maintenance.begin("x")
    file = tmp_path / FILE_NAME
    file.unlink()
    file.mkdir()  # even root cannot unlink this
    caplog.clear()
    assert maintenance.end().endswith(
        f" (x); but a restart of the sidecar goes back into maintenance, since {file} cannot be removed: Is a directory"
    )
    assert caplog.messages == ["maintenance is over", f"cannot remove {file}: Is a directory"]
    assert maintenance.instruction() == Promote(name="maintenance")


def test_half_a_file_is_not_left_behind(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).mkdir()  # the new one is written, but cannot take its place
    said = Maintenance(tmp_path).begin("x")
    assert f"will forget it, since {tmp_path}/maintenance cannot be written: Is a directory" in said
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


def test_a_reason_is_one_short_line() -> None:
    assert one_line(" two\n lines\t") == "two lines"
    assert one_line("a\x1b[31m\udcffb") == "a?[31m?b"
    assert len(one_line("x" * 1000)) == 200
