"""Log lines: one JSON object each, or one line of text, with what they are about."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from sidecar.observe import log as observe_log
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


def lines(capfd: pytest.CaptureFixture[str], write: Callable[[], object], *, style: str = "json") -> list[str]:
    configure(level="info", style=style, process="engine")
    write()
    text = capfd.readouterr().err
    assert text == "" or text.endswith("\n")
    return text.split("\n")[:-1]


def record(capfd: pytest.CaptureFixture[str], write: Callable[[], object]) -> dict[str, Any]:
    (line,) = lines(capfd, write)
    found: dict[str, Any] = json.loads(line)
    return found


def test_a_record_is_one_json_object_with_time_level_process_and_message(capfd: pytest.CaptureFixture[str]) -> None:
    said = record(capfd, lambda: log.warning("cannot send on %s: %s", "eth0", "Network is down"))
    time = said.pop("time")
    assert said == {"level": "warning", "process": "engine", "message": "cannot send on eth0: Network is down"}
    assert time[10] == "T"
    assert time.endswith("Z")


def test_what_is_no_text_is_written_in_escapes(capfd: pytest.CaptureFixture[str]) -> None:
    odd = os.fsdecode(b"odd\xff")
    said = record(capfd, lambda: log.warning("it is on %s", odd, extra={"interface": odd, "vhid": 42}))
    assert (said["message"], said["interface"], said["vhid"]) == ("it is on odd\\udcff", "odd\\udcff", "42")
    (line,) = lines(capfd, lambda: log.warning("it is on %s", odd), style="text")
    assert line.endswith("it is on odd\\udcff")


def test_the_time_is_the_records(capfd: pytest.CaptureFixture[str]) -> None:
    made = log.makeRecord(log.name, logging.INFO, __file__, 1, "then", (), None)
    made.created = 1795408808.068
    assert record(capfd, lambda: log.handle(made))["time"] == rfc3339(1795408808.068)


def test_extra_fields_are_fields(capfd: pytest.CaptureFixture[str]) -> None:
    extra = {"group": "web", "vhid": 42, "reason": Reason.PREEMPT, "peer": IPv4Address("10.0.0.1"), "odd": {1}}
    said = record(capfd, lambda: log.info("backup -> master", extra=extra))
    assert (said["group"], said["vhid"], said["reason"], said["peer"]) == ("web", 42, "preempt", "10.0.0.1")
    assert said["odd"] == [1]
    said = record(capfd, lambda: log.info("x", extra={"thing": object}))
    assert said["thing"] == "<class 'object'>"


def test_an_exception_is_in_its_record_and_still_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    def write() -> None:
        try:
            Path("/nonexistent/file").read_text()
        except OSError:
            log.exception("cannot read\nthe links")

    said = record(capfd, write)
    assert said["level"] == "error"
    assert said["message"].startswith("cannot read\nthe links\nTraceback (most recent call last):\n")
    assert said["message"].endswith("\nFileNotFoundError: [Errno 2] No such file or directory: '/nonexistent/file'")


@pytest.mark.parametrize("message", ["line\nbreak", 'quote"', "back\\slash", "\x00\x1b[31m", "\u2028", "ünïcode", ""])
def test_whatever_is_said_is_one_line(capfd: pytest.CaptureFixture[str], message: str) -> None:
    assert record(capfd, lambda: log.info("%s", message))["message"] == message


@pytest.mark.parametrize("style", ["json", "text"])
def test_what_is_below_the_level_is_not_said(capfd: pytest.CaptureFixture[str], style: str) -> None:
    assert lines(capfd, lambda: log.debug("details"), style=style) == []
    assert len(lines(capfd, lambda: log.error("fault"), style=style)) == 1


def test_configuring_again_replaces(capfd: pytest.CaptureFixture[str]) -> None:
    configure(level="debug", style="text", process="parent")
    assert record(capfd, lambda: log.info("once"))["process"] == "engine"


def test_text_is_one_line_with_the_fields_behind(capfd: pytest.CaptureFixture[str]) -> None:
    made = log.makeRecord(log.name, logging.INFO, __file__, 1, "backup -> %s", ("master",), None)
    made.created = 1795408808.068
    made.group, made.vhid = "web", 42
    assert lines(capfd, lambda: log.handle(made), style="text") == [
        "2026-11-23T04:40:08.068Z info    engine: backup -> master group=web vhid=42"
    ]


def test_an_exception_in_text_shows_its_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    def write() -> None:
        try:
            int("odd")
        except ValueError:
            log.exception("failed")

    said = lines(capfd, write, style="text")
    assert said[0].endswith("error   engine: failed")
    assert said[-1] == "ValueError: invalid literal for int() with base 10: 'odd'"


def test_what_was_asked_for_is_said_as_info_whatever_the_level(capfd: pytest.CaptureFixture[str]) -> None:
    configure(level="error", style="json", process="parent")
    log.info("nobody asked")
    say(log, "100% MASTER", group="web")
    said = json.loads(capfd.readouterr().err)
    assert (said["level"], said["message"], said["group"]) == ("info", "100% MASTER", "web")


# A reader that does not read ------------------------------------------------------------------------------------------


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The end that nobody reads from of a pipe that is full and that stands for stderr; others may write to it too."""
    reader, writer = os.pipe()
    monkeypatch.setattr("sidecar.observe.log._STDERR", writer)
    filler = os.open(f"/proc/self/fd/{writer}", os.O_WRONLY | os.O_NONBLOCK)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(filler, b"x" * 4096)
    yield reader
    for fd in (reader, writer, filler):
        os.close(fd)


def read_all(fd: int) -> str:
    os.set_blocking(fd, False)
    data = b""
    with contextlib.suppress(BlockingIOError):
        while piece := os.read(fd, 1 << 20):
            data += piece
    return data.decode().lstrip("x")


def test_a_pipe_that_nobody_reads_blocks_nobody_and_what_it_missed_is_counted(stuck: int) -> None:
    configure(level="info", style="json", process="parent")
    for number in range(100):
        log.info("line %d", number)
    assert read_all(stuck) == ""
    log.info("and on")
    said = [json.loads(line) for line in read_all(stuck).splitlines()]
    assert [each["message"] for each in said] == ["line 0", "99 log lines were dropped: nobody read them", "and on"]
    assert said[1]["level"] == "warning"


def test_a_line_that_fits_in_part_is_ended_before_the_next_one(stuck: int) -> None:
    configure(level="info", style="json", process="parent")
    os.read(stuck, 4096)
    log.info("%s", "y" * 10_000)
    log.info("lost")
    text = read_all(stuck)
    assert text.startswith('{"time"')
    assert not text.endswith("\n")
    log.info("next")
    first, dropped, last = (text + read_all(stuck)).splitlines()
    assert json.loads(first)["message"] == "y" * 10_000
    assert json.loads(dropped)["message"] == "1 log lines were dropped: nobody read them"
    assert json.loads(last)["message"] == "next"


def test_whoever_else_writes_there_goes_on_as_before(stuck: int) -> None:  # noqa: ARG001 - it stands for stderr
    shared = os.dup(observe_log._STDERR)
    configure(level="info", style="json", process="parent")
    assert os.get_blocking(shared)
    assert not os.get_blocking(observe_log._STDERR)
    os.close(shared)


def test_a_socket_as_systemd_gives_one_blocks_nobody_either(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        monkeypatch.setattr("sidecar.observe.log._STDERR", ours.fileno())
        configure(level="info", style="json", process="parent")
        for _ in range(2000):
            log.info("%s", "z" * 1000)
        assert ours.getblocking()
        assert json.loads(theirs.makefile().readline())["message"] == "z" * 1000


def test_a_reader_that_is_gone_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    monkeypatch.setattr("sidecar.observe.log._STDERR", writer)
    configure(level="info", style="json", process="parent")
    log.info("to nobody")
    log.info("nor this")
    os.close(writer)
