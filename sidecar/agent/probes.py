"""The health probes at work: each asks in its own time, never twice at once, and costs no more memory by any answer."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Protocol, assert_never

from sidecar.agent import gateway
from sidecar.agent.health import Ill, Result, Unknown, Well
from sidecar.children import describe
from sidecar.ipc.plan import ProbeKind, ProbePlan

Ask = Callable[[], Awaitable[Result]]
"""One question, with any answer in its own time; who is cancelled leaves nothing running."""

_WOKE_LATE = 0.5
"""Seconds: who was not run for so long has not listened, so that a timeout says nothing."""
_COMMANDS_AT_ONCE = 4
"""Each begins with an interpreter of ours."""
_READ = 65536
_SAID_AT_MOST = 200
_BODY_AT_MOST = 16384


class Kubernetes(Protocol):
    """What Kubernetes says of this pod and this node; None where it does not say, or is away."""

    async def container_ready(self, name: str) -> bool | None:
        """Tell whether a container of this pod is ready."""
        ...

    async def node_condition(self, kind: str) -> str | None:
        """Return the status of a condition of this node: True, False or Unknown."""
        ...


async def run(
    probes: Sequence[ProbePlan], heard: Callable[[int, Result], object], kubernetes: Kubernetes | None
) -> None:
    """Probe until cancelled; ``heard`` gets each result with the probe's number."""
    async with asyncio.TaskGroup() as group:
        slots = asyncio.Semaphore(_COMMANDS_AT_ONCE)
        for number, probe in enumerate(probes):
            turn = slots if probe.kind is ProbeKind.EXEC else contextlib.nullcontext()
            group.create_task(_repeat(asker(probe, kubernetes), probe, turn=turn, heard=partial(heard, number)))


async def _repeat(
    ask: Ask, probe: ProbePlan, *, turn: AbstractAsyncContextManager[object], heard: Callable[[Result], object]
) -> None:
    silence = Unknown() if probe.kind in (ProbeKind.CONTAINER, ProbeKind.NODE_CONDITION) else None
    while True:
        async with turn:  # whose wait is no part of the timeout
            began = time.monotonic()
            result = await answer(ask, timeout=probe.timeout, silence=silence)
        heard(result)
        await asyncio.sleep(max(0.0, began + probe.interval - time.monotonic()))


async def answer(
    ask: Ask, *, timeout: float, silence: Result | None = None, clock: Callable[[], float] = time.monotonic
) -> Result:
    """Ask and wait for ``timeout`` seconds. ``silence`` is what no answer means, None: that it has failed."""
    began = clock()
    try:
        async with asyncio.timeout(timeout):
            return await ask()
    except TimeoutError:
        if clock() - began > timeout + _WOKE_LATE:
            return Unknown()
        return silence or Ill(f"did not answer within {timeout:g} s")


def asker(probe: ProbePlan, kubernetes: Kubernetes | None) -> Ask:
    """Return what asks for a probe."""
    target = probe.target
    ask: Ask
    match probe.kind:
        case ProbeKind.HTTP:
            ask = partial(http, target[0])
        case ProbeKind.TCP:
            ask = partial(tcp, target[0])
        case ProbeKind.EXEC:
            ask = Command(target).ask
        case ProbeKind.FILE:
            ask = File(target[0], probe.max_age).ask
        case ProbeKind.CONTAINER:
            ask = partial(container, target[0], kubernetes)
        case ProbeKind.NODE_CONDITION:
            ask = partial(node_condition, target[0], kubernetes)
        case ProbeKind.GATEWAY:
            ask = partial(gateway.ask, target[0])
        case _:
            assert_never(probe.kind)
    return ask


# The network -----------------------------------------------------------------------------------------------------


async def http(url: str) -> Result:
    """GET ``url``: a status from 200 to 399 is well, as Kubernetes has it. The body is read, since servers complain
    about clients that go away, but not for long."""
    import aiohttp  # noqa: PLC0415 - its client takes its memory where it is used

    try:
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(force_close=True, ssl=False),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(total=None),
                read_bufsize=_BODY_AT_MOST,
                headers={"User-Agent": "carp-sidecar"},
            ) as session,
            session.get(url, allow_redirects=False) as response,
        ):
            with contextlib.suppress(asyncio.IncompleteReadError):
                await response.content.readexactly(_BODY_AT_MOST)
            healthy = 200 <= response.status < 400
            return Well() if healthy else Ill(f"answered {response.status}")
    except aiohttp.ClientConnectorError as error:
        return Ill(f"cannot be reached: {_why(error.os_error)}")
    except (aiohttp.ClientError, OSError) as error:
        return Ill(f"did not answer as HTTP has it ({type(error).__name__})")


async def tcp(target: str) -> Result:
    """Connect and hang up."""
    host, _, port = target.rpartition(":")
    try:
        _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    except OSError as error:
        return Ill(f"cannot be reached: {_why(error)}")
    writer.transport.abort()  # by RST: no connection of a probe stays in TIME_WAIT
    return Well()


def _why(error: OSError) -> str:
    """Return OpenSSL's words or the kernel's; asyncio's own repeat the address."""
    if reason := getattr(error, "reason", None):
        return f"TLS: {str(reason).replace('_', ' ').lower()}"
    return os.strerror(error.errno).lower() if error.errno else str(error)


# Commands and files ----------------------------------------------------------------------------------------------


class Command:
    """A command by way of ``sidecar.become``: no rights, no settings, no descriptors, in a process group of its own."""

    def __init__(self, argv: Sequence[str]) -> None:
        self._argv = argv
        self._process: asyncio.subprocess.Process | None = None

    async def ask(self) -> Result:
        """Run it; exit code 0 is well. Who is cancelled meanwhile kills it with all that it has started."""
        if self._process is not None and self._process.returncode is None:
            return Ill("still runs, although it was killed")
        loop = asyncio.get_running_loop()
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(writer, True)
        output = _Output(reader)
        loop.add_reader(reader, output.read)
        command = [sys.executable, "-P", "-m", "sidecar", "command", str(os.getpid()), *self._argv]
        try:
            try:
                process = await asyncio.create_subprocess_exec(
                    *command, stdin=asyncio.subprocess.DEVNULL, stdout=writer, stderr=writer, process_group=0
                )
            except OSError as error:
                return Ill(f"cannot be run: {_why(error)}")
            finally:
                os.close(writer)
            self._process = process
            try:
                code = await process.wait()
            finally:
                if process.returncode is None:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
            output.read()
        finally:
            loop.remove_reader(reader)
            os.close(reader)
        return Well() if code == 0 else Ill(describe(code) + (f" ({output.line})" if output.line else ""))


class _Output:
    """What a command says: the beginning is kept, the rest is read and dropped."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._kept = b""

    def read(self) -> None:
        """Take what there is, but not for ever."""
        try:
            self._kept = (self._kept + os.read(self._fd, _READ))[:_SAID_AT_MOST]
        except BlockingIOError:
            return

    @property
    def line(self) -> str:
        """The first line."""
        return self._kept.decode(errors="replace").strip().partition("\n")[0].strip()


class File:
    """A file that has to be there, and to change within ``max_age`` seconds where that is not None.

    Its age is told by our monotonic clock, so that no step of the wall clock makes it old: since when its time of
    modification was last seen to change. Before that has happened, and ``max_age`` has not passed, nothing is known.
    """

    def __init__(
        self,
        path: str,
        max_age: float | None,
        *,
        stat: Callable[[Path], os.stat_result] = Path.stat,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = Path(path)
        self._max_age = max_age
        self._stat = stat
        self._clock = clock
        self._looking: asyncio.Future[int | OSError] | None = None
        self._seen: int | None = None
        self._since = clock()
        self._has_changed = False

    async def ask(self) -> Result:
        """Look at it, in a thread: the file system may hang. There is never more than one that does."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().create_future()
            threading.Thread(target=self._look, args=(self._looking, self._looking.get_loop()), daemon=True).start()
        found = await asyncio.shield(self._looking)
        match found:
            case OSError():
                self._seen = None
                return Ill(f"is not there: {_why(found)}")
            case _:
                return self._judge(found)

    def _judge(self, modified: int) -> Result:
        now = self._clock()
        if self._max_age is None:
            return Well()
        if modified != self._seen:
            self._has_changed = self._has_changed or self._seen is not None
            self._seen, self._since = modified, now
        age = now - self._since
        if age > self._max_age:
            return Ill(f"has not changed for more than {self._max_age:g} s")
        return Well() if self._has_changed else Unknown()

    def _look(self, future: asyncio.Future[int | OSError], loop: asyncio.AbstractEventLoop) -> None:
        found: int | OSError
        try:
            found = self._stat(self._path).st_mtime_ns
        except OSError as error:
            found = error
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(_settle, future, found)


def _settle(future: asyncio.Future[int | OSError], found: int | OSError) -> None:
    if not future.done():
        future.set_result(found)


# Kubernetes ------------------------------------------------------------------------------------------------------


async def container(name: str, kubernetes: Kubernetes | None) -> Result:
    """Ask what is known of a container's readiness."""
    match None if kubernetes is None else await kubernetes.container_ready(name):
        case None:
            return Unknown()
        case ready:
            return Well() if ready else Ill("is not ready")


async def node_condition(target: str, kubernetes: Kubernetes | None) -> Result:
    """Ask what is known of a node's condition; that Kubernetes itself does not know (Unknown) is no fault of ours."""
    kind, _, wanted = target.partition("=")
    status = None if kubernetes is None else await kubernetes.node_condition(kind)
    if status not in ("True", "False"):
        return Unknown()
    return Well() if status == wanted else Ill(f"is {status}")
