"""Log lines: one JSON object each, or one line of text, with what they are about."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from sidecar.observe.log import configure, say
from sidecar.observe.moment import rfc3339
from sidecar.protocol.types import Reason

log = logging.getLogger("sidecar.test")


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[None]:
    """Put the root logger back as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


def lines(capsys: pytest.CaptureFixture[str], write: Callable[[], object], *, style: str = "json") -> list[str]:
    configure(level="info", style=style, process="engine")
    write()
    text = capsys.readouterr().err
    assert text == "" or text.endswith("\n")
    return text.split("\n")[:-1]


def record(capsys: pytest.CaptureFixture[str], write: Callable[[], object]) -> dict[str, Any]:
    (line,) = lines(capsys, write)
    found: dict[str, Any] = json.loads(line)
    return found


def test_a_record_is_one_json_object_with_time_level_process_and_message(capsys: pytest.CaptureFixture[str]) -> None:
    said = record(capsys, lambda: log.warning("cannot send on %s: %s", "eth0", "Network is down"))
    time = said.pop("time")
    assert said == {"level": "warning", "process": "engine", "message": "cannot send on eth0: Network is down"}
    assert time[10] == "T"
    assert time.endswith("Z")


def test_the_time_is_the_records(capsys: pytest.CaptureFixture[str]) -> None:
    made = log.makeRecord(log.name, logging.INFO, __file__, 1, "then", (), None)
    made.created = 1795408808.068
    assert record(capsys, lambda: log.handle(made))["time"] == rfc3339(1795408808.068)


def test_extra_fields_are_fields(capsys: pytest.CaptureFixture[str]) -> None:
    extra = {"group": "web", "vhid": 42, "reason": Reason.PREEMPT, "peer": IPv4Address("10.0.0.1"), "odd": {1}}
    said = record(capsys, lambda: log.info("backup -> master", extra=extra))
    assert (said["group"], said["vhid"], said["reason"], said["peer"]) == ("web", 42, "preempt", "10.0.0.1")
    assert said["odd"] == [1]
    said = record(capsys, lambda: log.info("x", extra={"thing": object}))
    assert said["thing"] == "<class 'object'>"


def test_an_exception_is_in_its_record_and_still_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def write() -> None:
        try:
            Path("/nonexistent/file").read_text()
        except OSError:
            log.exception("cannot read\nthe links")

    said = record(capsys, write)
    assert said["level"] == "error"
    assert said["message"].startswith("cannot read\nthe links\nTraceback (most recent call last):\n")
    assert said["message"].endswith("\nFileNotFoundError: [Errno 2] No such file or directory: '/nonexistent/file'")


@pytest.mark.parametrize("message", ["line\nbreak", 'quote"', "back\\slash", "\x00\x1b[31m", "\u2028", "ünïcode", ""])
def test_whatever_is_said_is_one_line(capsys: pytest.CaptureFixture[str], message: str) -> None:
    assert record(capsys, lambda: log.info("%s", message))["message"] == message


@pytest.mark.parametrize("style", ["json", "text"])
def test_what_is_below_the_level_is_not_said(capsys: pytest.CaptureFixture[str], style: str) -> None:
    assert lines(capsys, lambda: log.debug("details"), style=style) == []
    assert len(lines(capsys, lambda: log.error("fault"), style=style)) == 1


def test_configuring_again_replaces(capsys: pytest.CaptureFixture[str]) -> None:
    configure(level="debug", style="text", process="parent")
    assert record(capsys, lambda: log.info("once"))["process"] == "engine"


def test_text_is_one_line_with_the_fields_behind(capsys: pytest.CaptureFixture[str]) -> None:
    made = log.makeRecord(log.name, logging.INFO, __file__, 1, "backup -> %s", ("master",), None)
    made.created = 1795408808.068
    made.group, made.vhid = "web", 42
    assert lines(capsys, lambda: log.handle(made), style="text") == [
        "2026-11-23T04:40:08.068Z info    engine: backup -> master group=web vhid=42"
    ]


def test_an_exception_in_text_shows_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    def write() -> None:
        try:
            int("odd")
        except ValueError:
            log.exception("failed")

    said = lines(capsys, write, style="text")
    assert said[0].endswith("error   engine: failed")
    assert said[-1] == "ValueError: invalid literal for int() with base 10: 'odd'"


def test_what_was_asked_for_is_said_as_info_whatever_the_level(capsys: pytest.CaptureFixture[str]) -> None:
    configure(level="error", style="json", process="parent")
    log.info("nobody asked")
    say(log, "100% MASTER", group="web")
    said = json.loads(capsys.readouterr().err)
    assert (said["level"], said["message"], said["group"]) == ("info", "100% MASTER", "web")
