"""Each kind of probe, against real servers on loopback, real commands and real files."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import stat
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from sidecar.agent import probes
from sidecar.agent.health import Ill, Result, Unknown, Well
from sidecar.agent.probes import Command, File, answer, container, http, node_condition, tcp
from sidecar.ipc.plan import ProbeKind, ProbePlan
from tests.netns.peers import until

Respond = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]
LONG = 60.0


def on_time() -> float:
    """A clock by which this machine is never late: what nobody answers has failed."""
    return 0.0


@contextlib.asynccontextmanager
async def server(respond: Respond, host: str = "127.0.0.1") -> AsyncIterator[int]:
    """A server whose every connection gets one answer; its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await respond(await reader.read(65536), writer)
        writer.close()

    listening = await asyncio.start_server(serve, host, 0)
    async with listening:
        yield listening.sockets[0].getsockname()[1]


def saying(*answers: bytes, heard: list[bytes] | None = None) -> Respond:
    async def respond(request: bytes, writer: asyncio.StreamWriter) -> None:
        if heard is not None:
            heard.append(request)
        for each in answers:
            writer.write(each)
            await writer.drain()

    return respond


def status(code: int) -> bytes:
    return f"HTTP/1.1 {code} x\r\nContent-Length: 3\r\nLocation: /elsewhere\r\n\r\nabc".encode()


async def ask_http(respond: Respond, path: str = "/", *, scheme: str = "http", timeout: float = LONG) -> Result:
    async with server(respond) as port:
        return await answer(lambda: http(f"{scheme}://127.0.0.1:{port}{path}"), timeout=timeout, clock=on_time)


async def for_ever(_: bytes, __: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


# HTTP ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [200, 203, 301, 399])
def test_a_status_from_200_to_399_is_well(code: int) -> None:
    assert asyncio.run(ask_http(saying(status(code)))) == Well()


@pytest.mark.parametrize("code", [400, 404, 500, 503])
def test_any_other_status_is_told(code: int) -> None:
    assert asyncio.run(ask_http(saying(status(code)))) == Ill(f"answered {code}")


def test_it_asks_for_the_path_once_and_follows_nobody() -> None:
    heard: list[bytes] = []
    assert asyncio.run(ask_http(saying(status(302), heard=heard), "/healthz?deep=1")) == Well()
    assert len(heard) == 1
    assert heard[0].startswith(b"GET /healthz?deep=1 HTTP/1.1\r\n")
    assert b"User-Agent: carp-sidecar\r\n" in heard[0]


def test_no_proxy_of_the_environment_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert asyncio.run(ask_http(saying(status(200)))) == Well()


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        (b"SSH-2.0-OpenSSH_9\r\n\r\n", "did not answer as HTTP has it (BadStatusLine)"),
        (b"", "did not answer as HTTP has it (ServerDisconnectedError)"),
        (b"HTTP/1.1 200 x\r\nContent-Length: 9\r\n\r\nabc", "did not answer as HTTP has it (ClientPayloadError)"),
    ],
)
def test_what_is_no_http_or_half_of_it(said: bytes, fault: str) -> None:
    result = asyncio.run(ask_http(saying(said)))
    assert isinstance(result, Ill)
    assert result.fault.partition(" (")[0] == fault.partition(" (")[0]


def test_a_body_without_an_end_is_read_no_further_than_needed() -> None:
    head = b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n"

    async def respond(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while True:
            writer.write(b"1000\r\n" + b"x" * 4096 + b"\r\n")
            await writer.drain()

    assert asyncio.run(ask_http(respond)) == Well()


def test_who_never_answers_has_failed_at_the_timeout() -> None:
    assert asyncio.run(ask_http(for_ever, timeout=0.1)) == Ill("did not answer within 0.1 s")


def test_nobody_there() -> None:
    async def ask() -> list[Result]:
        async with server(for_ever) as port:
            pass
        return [await http(f"http://127.0.0.1:{port}/"), await tcp(f"127.0.0.1:{port}"), await tcp(f"[::1]:{port}")]

    assert asyncio.run(ask()) == [Ill("cannot be reached: connection refused")] * 3


def test_plain_http_where_tls_is_wanted() -> None:
    result = asyncio.run(ask_http(saying(status(200)), scheme="https"))
    assert isinstance(result, Ill)
    assert result.fault.startswith(("cannot be reached: TLS: ", "did not answer as HTTP has it"))


# TCP -------------------------------------------------------------------------------------------------------------


def test_a_connection_is_enough() -> None:
    async def ask() -> Result:
        async with server(for_ever) as port:
            return await tcp(f"127.0.0.1:{port}")

    assert asyncio.run(ask()) == Well()


# Commands --------------------------------------------------------------------------------------------------------


def run(*argv: str, timeout: float = LONG) -> Result:
    return asyncio.run(answer(Command(argv).ask, timeout=timeout, clock=on_time))


def shell(script: str, timeout: float = LONG) -> Result:
    return run("/bin/sh", "-c", script, timeout=timeout)


@pytest.mark.parametrize(
    ("script", "result"),
    [
        ("exit 0", Well()),
        ("echo all is well", Well()),
        ("exit 3", Ill("ended with exit code 3")),
        ("echo the disk is full >&2; echo more; exit 1", Ill("ended with exit code 1 (the disk is full)")),
        ("kill -KILL $$", Ill("was ended by SIGKILL")),
        ("kill -35 $$", Ill("was ended by signal 35")),
        ("head -c 1000000 /dev/zero | tr '\\0' x; exit 1", Ill(f"ended with exit code 1 ({'x' * 200})")),
    ],
)
def test_the_exit_code_decides_and_the_first_line_says_why(script: str, result: Result) -> None:
    assert shell(script) == result


def test_a_command_that_is_not_there() -> None:
    assert run("/nonexistent") == Ill("ended with exit code 126 (cannot run /nonexistent: No such file or directory)")


def test_there_is_no_shell() -> None:
    assert run("/bin/echo", "$(exit 3); exit 3") == Well()


def test_a_command_inherits_no_secret_no_descriptor_and_no_deaf_ear(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CARP_PASSWORD", "hunter2")
    monkeypatch.setenv("https_proxy", "http://user:hunter2@proxy")
    out = tmp_path / "out"
    script = (
        "import json, os, signal, sys; deaf = [s.name for s in signal.Signals if signal.getsignal(s) is signal.SIG_IGN "
        "and s not in (signal.SIGPIPE, signal.SIGXFSZ)]; "  # python itself ignores these two
        "said = [dict(os.environ), sorted(os.listdir('/proc/self/fd')), deaf, os.getpgid(0) == os.getpid()]; "
        f"json.dump(said, open({str(out)!r}, 'w'))"
    )
    descriptor = os.open("/", os.O_RDONLY)
    os.set_inheritable(descriptor, True)
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        assert run(sys.executable, "-I", "-c", script) == Well()
    finally:
        signal.signal(signal.SIGUSR1, before)
        os.close(descriptor)
    environment, descriptors, deaf, leads = json.loads(out.read_text())
    assert "hunter2" not in json.dumps(environment)
    assert descriptors == ["0", "1", "2", "3"], "the last is that of this question"
    assert deaf == []
    assert leads


def test_at_its_timeout_a_command_is_killed_with_what_it_started_and_the_next_one_may_begin(tmp_path: Path) -> None:
    pids = tmp_path / "pids"

    def alive(pid: str) -> bool:
        with contextlib.suppress(OSError):
            return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
        return False

    async def play() -> tuple[Result, Result]:
        command = Command(("/bin/sh", "-c", f"sleep 600 & echo $$ $! > {pids}.new; mv {pids}.new {pids}; wait"))
        asking = asyncio.create_task(command.ask())
        while not pids.exists():
            await asyncio.sleep(0.01)
        asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asking
        assert command._process is not None
        early = await command.ask() if command._process.returncode is None else None
        await command._process.wait()
        pids.unlink()
        again = asyncio.create_task(command.ask())
        while not pids.exists():
            await asyncio.sleep(0.01)
        again.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await again
        assert early in (None, Ill("still runs, although it was killed"))
        hanging = await answer(Command(("/bin/sleep", "600")).ask, timeout=0.2, clock=on_time)
        return hanging, await Command(("/bin/true",)).ask()

    assert asyncio.run(play()) == (Ill("did not answer within 0.2 s"), Well())
    for pid in pids.read_text().split():
        until(lambda pid=pid: not alive(pid), f"process {pid} is gone")


# Files -----------------------------------------------------------------------------------------------------------


class Disk:
    """A file system and a clock that the test turns; ``modified`` None: there is no such file."""

    def __init__(self) -> None:
        self.modified: int | None = None
        self.now = 100.0

    def stat(self, _: Path) -> os.stat_result:
        if self.modified is None:
            raise FileNotFoundError(2, "No such file or directory")
        return SimpleNamespace(st_mtime_ns=self.modified, st_mode=stat.S_IFREG)  # type: ignore[return-value]

    def file(self, max_age: float | None) -> File:
        return File("/run/ready", max_age, stat=self.stat, clock=lambda: self.now)


MISSING = Ill("is not there: no such file or directory")


def test_a_real_file(tmp_path: Path) -> None:
    async def ask() -> list[Result]:
        ready = File(str(tmp_path / "ready"), None)
        before = await ready.ask()
        (tmp_path / "ready").touch()
        return [before, await ready.ask()]

    assert asyncio.run(ask()) == [MISSING, Well()]


def test_a_heartbeat_has_to_be_seen_to_beat_and_no_wall_clock_comes_into_it() -> None:
    disk = Disk()
    old = Ill("has not changed for more than 10 s")

    async def ask() -> list[Result]:
        heartbeat, found = disk.file(10.0), []
        for modified, seconds in [(7, 0), (7, 9), (8, 0), (8, 9), (8, 2), (5, 0), (None, 0), (5, 0), (5, 11)]:
            disk.modified, disk.now = modified, disk.now + seconds
            found.append(await heartbeat.ask())
        return found

    # A file that has not changed yet tells nothing; a time that goes back is a change as well.
    assert asyncio.run(ask()) == [Unknown(), Unknown(), Well(), Well(), old, Well(), MISSING, Well(), old]


def test_a_heartbeat_that_never_beats_has_failed_when_its_time_is_over() -> None:
    disk = Disk()
    disk.modified = 1

    async def ask() -> list[Result]:
        heartbeat = disk.file(10.0)
        first = await heartbeat.ask()
        disk.now += 10.5
        return [first, await heartbeat.ask()]

    assert asyncio.run(ask()) == [Unknown(), Ill("has not changed for more than 10 s")]


def test_a_file_system_that_hangs_holds_up_one_thread_and_nobody_else() -> None:
    async def ask() -> tuple[list[Result], int]:
        hanging, calls = asyncio.Event(), 0
        loop = asyncio.get_running_loop()

        def hang(_: Path) -> os.stat_result:
            nonlocal calls
            calls += 1
            asyncio.run_coroutine_threadsafe(hanging.wait(), loop).result()
            return os.stat("/")  # noqa: PTH116

        file = File("/nfs/ready", None, stat=hang)
        found = [await answer(file.ask, timeout=0.05, clock=on_time) for _ in range(3)]
        hanging.set()
        found.append(await answer(file.ask, timeout=LONG))
        return found, calls

    found, calls = asyncio.run(ask())
    assert found == [*[Ill("did not answer within 0.05 s")] * 3, Well()]
    assert calls == 1


# Kubernetes ------------------------------------------------------------------------------------------------------


class Said:
    """What Kubernetes says."""

    def __init__(self, *, ready: bool | None = None, status: str | None = None) -> None:
        self._ready, self._status = ready, status

    async def container_ready(self, name: str) -> bool | None:
        assert name == "app"
        return self._ready

    async def node_condition(self, kind: str) -> str | None:
        assert kind == "DiskPressure"
        return self._status


@pytest.mark.parametrize(
    ("said", "result"),
    [(None, Unknown()), (Said(), Unknown()), (Said(ready=True), Well()), (Said(ready=False), Ill("is not ready"))],
)
def test_a_container(said: Said | None, result: Result) -> None:
    assert asyncio.run(container("app", said)) == result


@pytest.mark.parametrize(
    ("said", "result"),
    [
        (None, Unknown()),
        (Said(), Unknown()),
        (Said(status="Unknown"), Unknown()),
        (Said(status="False"), Well()),
        (Said(status="True"), Ill("is True")),
    ],
)
def test_a_condition_of_the_node(said: Said | None, result: Result) -> None:
    assert asyncio.run(node_condition("DiskPressure=False", said)) == result


# In their own time -----------------------------------------------------------------------------------------------


async def never() -> Result:
    await asyncio.Event().wait()
    raise AssertionError


def test_that_kubernetes_is_silent_is_no_fault_of_the_node() -> None:
    assert asyncio.run(answer(never, timeout=0.01, silence=Unknown())) == Unknown()


def test_who_was_not_run_meanwhile_has_not_listened() -> None:
    now = iter([0.0, 5.0])
    assert asyncio.run(answer(never, timeout=0.01, clock=lambda: next(now))) == Unknown()


def test_each_probe_asks_again_and_again_and_never_twice_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    plans = [
        ProbePlan(name="quick", kind=ProbeKind.TCP, target=("it",), interval=0.01, timeout=LONG),
        ProbePlan(name="slow", kind=ProbeKind.TCP, target=("it",), interval=0.01, timeout=0.05),
    ]
    asked = {"quick": 0, "slow": 0}
    at_once = {"quick": 0, "slow": 0}

    def asker(plan: ProbePlan, _: object) -> probes.Ask:
        async def ask() -> Result:
            asked[plan.name] += 1
            at_once[plan.name] += 1
            assert at_once[plan.name] == 1
            try:
                return Well() if plan.name == "quick" else await never()
            finally:
                at_once[plan.name] -= 1

        return ask

    monkeypatch.setattr(probes, "asker", asker)
    heard: dict[int, list[Result]] = {0: [], 1: []}

    async def play() -> None:
        work = asyncio.create_task(probes.run(plans, lambda number, result: heard[number].append(result), None))
        while min(map(len, heard.values())) < 3:
            await asyncio.sleep(0.01)
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work

    asyncio.run(play())
    assert set(heard[0]) == {Well()}
    assert set(heard[1]) <= {Ill("did not answer within 0.05 s"), Unknown()}, "unknown: this machine did not run us"
