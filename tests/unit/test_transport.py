"""Requests on their way: what is sent, and that whatever comes back or does not is an ApiError in words."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import json
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar
from urllib.parse import parse_qsl, urlsplit

import pytest

from sidecar import __version__
from sidecar.agent import transport as transport_module
from sidecar.agent.errors import ApiError
from sidecar.agent.kubernetes import KubernetesMirror
from sidecar.agent.state import ApiState, MirrorStatus
from sidecar.agent.transport import MERGE_PATCH, Call, Transport, _socket
from sidecar.demo.certificates import ServerIdentity, make_server_identity
from sidecar.ipc.messages import MirroredGroup
from sidecar.ipc.plan import KubernetesPlan
from tests.fakes.http import ScriptedServer, write_kubeconfig
from tests.fakes.tasks import together

T = TypeVar("T")

READ = Call(verb="list", resource="pods", path="/api/v1/namespaces/edge/pods", what="pod edge/carp-1")
WRITE = Call(
    verb="patch",
    resource="pods",
    path="/api/v1/namespaces/edge/pods/carp-1",
    what="pod edge/carp-1",
    body={"metadata": {"labels": {"a": "b"}}},
    content_type=MERGE_PATCH,
)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


def call(kubeconfig: str, action: Callable[[Transport], Awaitable[T]], status: MirrorStatus | None = None) -> T:
    """Do something with a transport and close it."""
    plan = KubernetesPlan(pod_name="carp-1", pod_namespace="edge", role_label="carp-role", kubeconfig=kubeconfig)

    async def run() -> T:
        transport = Transport(plan, status or MirrorStatus())
        try:
            return await action(transport)
        finally:
            await transport.close()

    return asyncio.run(run())


def fault(kubeconfig: str, asked: Call = READ) -> ApiError:
    with pytest.raises(ApiError) as caught:
        call(kubeconfig, lambda transport: transport.request(asked))
    return caught.value


def test_a_patch_goes_out_as_it_is_with_the_token(server: ScriptedServer, tmp_path: Path) -> None:
    server.answers.append((200, b"{}"))
    status = MirrorStatus()
    assert call(server.kubeconfig(tmp_path / "config"), lambda t: t.request(WRITE), status) == b"{}"
    (request,) = server.requests
    assert (request.method, request.path, request.body) == ("PATCH", WRITE.path, WRITE.body)
    assert request.headers["authorization"] == "Bearer a-token"
    assert request.headers["content-type"] == "application/merge-patch+json"
    assert status.requests == {("patch", "pods", "200"): 1}


def test_a_connection_serves_several_calls(server: ScriptedServer, tmp_path: Path) -> None:
    server.answers += [(200, b"1"), (503, b"{}"), (200, b"2")]

    async def thrice(transport: Transport) -> list[bytes]:
        first = await transport.request(READ)
        with pytest.raises(ApiError, match="503"):
            await transport.request(READ)
        return [first, await transport.request(READ)]

    assert call(server.kubeconfig(tmp_path / "config"), thrice) == [b"1", b"2"]


def test_a_token_that_was_rotated_is_read_again(server: ScriptedServer, tmp_path: Path) -> None:
    path = tmp_path / "config"
    server.kubeconfig(path)
    server.answers += [(200, b"1"), (401, b"{}"), (200, b"2"), (401, b"{}"), (401, b"{}")]

    async def story(transport: Transport) -> None:
        await transport.request(READ)
        path.write_text(path.read_text().replace("a-token", "another"))
        assert await transport.request(READ) == b"2"
        with pytest.raises(ApiError, match="does not accept the token"):
            await transport.request(READ)

    call(str(path), story)
    assert [each.headers["authorization"].split()[1] for each in server.requests[:3]] == [
        "a-token",
        "a-token",
        "another",
    ]


class Rotating:
    """An API server that takes one token only; a watch of it says a line, and another one once it is told to."""

    def __init__(self) -> None:
        self.token = "a-token"
        self.goes_on = asyncio.Event()
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                await self._answer((await reader.readuntil(b"\r\n\r\n")).decode(), writer)
        writer.close()

    async def _answer(self, asked: str, writer: asyncio.StreamWriter) -> None:
        if f"Bearer {self.token}\r\n" not in asked:
            writer.write(b"HTTP/1.1 401 X\r\nContent-Length: 2\r\n\r\n{}")
        elif "watch=1" in asked:
            writer.write(b"HTTP/1.1 200 X\r\nContent-Length: 8\r\n\r\none\n")
            await self.goes_on.wait()
            writer.write(b"two\n")
        else:
            writer.write(b"HTTP/1.1 200 X\r\nContent-Length: 2\r\n\r\nok")
        await writer.drain()


@contextlib.asynccontextmanager
async def rotating(path: Path) -> AsyncIterator[tuple[Rotating, Transport]]:
    server = Rotating()
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    kubeconfig = write_kubeconfig(path, listening.sockets[0].getsockname()[1])
    plan = KubernetesPlan(pod_name="carp-1", pod_namespace="edge", role_label="carp-role", kubeconfig=kubeconfig)
    transport = Transport(plan, MirrorStatus())
    try:
        yield server, transport
    finally:
        await transport.close()
        listening.close()


def rotate(server: Rotating, path: Path) -> None:
    path.write_text(path.read_text().replace(server.token, "another"))
    server.token = "another"


WATCH = dataclasses.replace(READ, verb="watch", query=(("watch", "1"),))


def test_a_watch_goes_on_while_another_call_reads_the_token_again(tmp_path: Path) -> None:
    async def story() -> list[bytes]:
        async with rotating(tmp_path / "config") as (server, transport):
            watch = transport.lines(WATCH)
            told = [await anext(watch), await anext(watch)]
            rotate(server, tmp_path / "config")
            assert await transport.request(READ) == b"ok"
            server.goes_on.set()
            return told + [line async for line in watch]

    assert asyncio.run(story()) == [b"", b"one\n", b"two\n"]


def test_many_that_are_refused_at_once_read_the_token_again_without_taking_each_others_connections(
    tmp_path: Path,
) -> None:
    async def story() -> tuple[list[bytes], int]:
        async with rotating(tmp_path / "config") as (server, transport):
            await transport.request(READ)
            rotate(server, tmp_path / "config")
            answers = await asyncio.gather(*(transport.request(READ) for _ in range(20)))
            return answers, server.connections

    answers, connections = asyncio.run(story())
    assert answers == [b"ok"] * 20
    assert connections <= 1 + 20 + 20


def test_a_watch_that_is_refused_reads_the_token_the_next_time(tmp_path: Path) -> None:
    async def story() -> list[bytes]:
        async with rotating(tmp_path / "config") as (server, transport):
            await transport.request(READ)
            rotate(server, tmp_path / "config")
            server.goes_on.set()
            with pytest.raises(ApiError, match="does not accept the token"):
                [line async for line in transport.lines(WATCH)]
            return [line async for line in transport.lines(WATCH)]

    assert asyncio.run(story()) == [b"", b"one\n", b"two\n"]


def shows(tmp_path: Path, context: ssl.SSLContext, identity: ServerIdentity) -> None:
    """Have a server show that certificate from now on."""
    (tmp_path / "cert").write_bytes(identity.certificate)
    (tmp_path / "key").write_bytes(identity.key)
    context.load_cert_chain(tmp_path / "cert", tmp_path / "key")


async def well(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer once, if anything is asked."""
    with contextlib.suppress(asyncio.IncompleteReadError, OSError):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        await writer.drain()
    writer.close()


@contextlib.asynccontextmanager
async def behind_tls(
    tmp_path: Path, identity: ServerIdentity, context: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[str, list[None]]]:
    """Yield a kubeconfig for a server with that certificate, and what grows with each connection that is begun."""
    (tmp_path / "ca").write_bytes(identity.ca)
    context = context or ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    shows(tmp_path, context, identity)
    begun: list[None] = []
    context.sni_callback = lambda *_: begun.append(None)
    listening = await asyncio.start_server(well, "127.0.0.1", 0, ssl=context)
    path = Path(write_kubeconfig(tmp_path / "config", listening.sockets[0].getsockname()[1]))
    cluster = (
        f'"certificate-authority": "{tmp_path / "ca"}", "tls-server-name": "localhost", "server": "https://localhost'
    )
    path.write_text(path.read_text().replace('"server": "http://127.0.0.1', cluster))
    try:
        yield str(path), begun
    finally:
        listening.close()


@pytest.mark.parametrize(
    ("off", "words"),
    [(timedelta(hours=-9), "not yet valid"), (timedelta(days=400), "has expired")],
    ids=["behind", "ahead"],
)
def test_a_clock_that_is_off_is_suspected_where_a_certificate_is_not_valid_now_once_and_without_a_busy_loop(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, off: timedelta, words: str
) -> None:
    """As a node sees it whose clock is off by so much: the certificate is of the time that it really is."""
    identity = make_server_identity(["localhost"], now=datetime.now(UTC) - off)

    async def story() -> MirrorStatus:
        async with behind_tls(tmp_path, identity) as (kubeconfig, begun):
            plan = KubernetesPlan(pod_name="a", pod_namespace="edge", role_label="carp-role", kubeconfig=kubeconfig)
            group = MirroredGroup(name="web", interface="eth0", vhid=42, vips=("10.0.0.200/32",))
            mirror = KubernetesMirror(plan, node="node-a", groups=(group,))
            async with together(mirror.run()):
                began = time.monotonic()
                while len(begun) < 12:
                    await asyncio.sleep(0.05)
                tries, spent = len(begun), time.monotonic() - began
                assert tries < 20 + 10 * spent, "several parts, each twice a second at most in the end"
            return mirror.status

    status = asyncio.run(story())
    assert status.api is ApiState.UNREACHABLE
    assert words in status.last_error
    (line,) = caplog.messages
    assert "is the clock of this node right? It says 20" in line
    assert line.endswith("if it is, renew the certificate; the VIP does not depend on it, Kubernetes is told later")


def test_a_ca_that_is_renewed_in_place_is_read_again(tmp_path: Path) -> None:
    old, new = make_server_identity(["localhost"]), make_server_identity(["localhost"])
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)

    async def story() -> list[bytes]:
        async with behind_tls(tmp_path, old, context) as (kubeconfig, _):
            plan = KubernetesPlan(pod_name="a", pod_namespace="edge", role_label="carp-role", kubeconfig=kubeconfig)
            transport = Transport(plan, MirrorStatus())
            answers = [await transport.request(READ)]
            shows(tmp_path, context, new)
            with pytest.raises(ApiError, match="CERTIFICATE_VERIFY_FAILED"):
                await transport.request(READ)
            (tmp_path / "ca").write_bytes(new.ca)
            with contextlib.suppress(ApiError):  # by what was read before
                await transport.request(READ)
            answers.append(await transport.request(READ))
            await transport.close()
            return answers

    assert asyncio.run(story()) == [b"{}", b"{}"]


def test_a_certificate_of_somebody_else_has_nothing_to_do_with_the_clock(tmp_path: Path) -> None:
    identity, other = make_server_identity(["localhost"]), make_server_identity(["localhost"])

    async def story() -> str:
        async with behind_tls(tmp_path, identity) as (kubeconfig, _):
            (tmp_path / "ca").write_bytes(other.ca)
            plan = KubernetesPlan(pod_name="a", pod_namespace="edge", role_label="carp-role", kubeconfig=kubeconfig)
            transport = Transport(plan, MirrorStatus())
            with pytest.raises(ApiError) as caught:
                await transport.request(READ)
            await transport.close()
            return str(caught.value)

    said = asyncio.run(story())
    assert "CERTIFICATE_VERIFY_FAILED" in said
    assert "clock" not in said


def test_a_watch_is_read_line_by_line(server: ScriptedServer, tmp_path: Path) -> None:
    server.answers += [(200, b"one\ntwo\n"), (410, b'{"message":"too old"}')]

    async def story(transport: Transport) -> list[bytes]:
        lines = [line async for line in transport.lines(READ)]
        with pytest.raises(ApiError, match="410: too old"):
            [line async for line in transport.lines(READ)]
        return lines

    assert call(server.kubeconfig(tmp_path / "config"), story) == [b"", b"one\n", b"two\n"]


def test_a_line_that_does_not_end_is_an_error(server: ScriptedServer, tmp_path: Path) -> None:
    server.answers.append((200, b"x" * 8 * 1024 * 1024))

    async def story(transport: Transport) -> None:
        with pytest.raises(ApiError, match="cannot be reached"):
            [line async for line in transport.lines(READ)]

    call(server.kubeconfig(tmp_path / "config"), story)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "the API server does not accept the token (401); is the service account still there?"),
        (
            403,
            "the right to list pods in namespace edge is missing (403); bind the Role that the chart ships to this "
            "pod's service account",
        ),
        (404, "pod edge/carp-1 is not there (404)"),
        (409, "the API server answers 409: told why"),
        (429, "the API server answers 429: told why"),
        (500, "the API server answers 500: told why"),
    ],
)
def test_every_refusal_says_what_to_do(server: ScriptedServer, tmp_path: Path, status: int, words: str) -> None:
    server.answers += [(status, b'{"kind":"Status","message":"told why"}')] * 2
    error = fault(server.kubeconfig(tmp_path / "config"))
    assert (error.status, str(error)) == (status, words)
    assert error.right == ("list pods" if status == 403 else "")


def test_a_server_that_hangs_up_is_an_error(server: ScriptedServer, tmp_path: Path) -> None:
    server.answers += [None, None, None]
    status = MirrorStatus()
    with pytest.raises(ApiError, match=r"^the API server cannot be reached: "):
        call(server.kubeconfig(tmp_path / "config"), lambda transport: transport.request(READ), status)
    assert status.requests == {("list", "pods", ""): 1}


def test_a_write_that_nobody_answers_is_given_up_before_a_read_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All is acknowledged and nothing answered, as by a middlebox that has forgotten the connection."""
    monkeypatch.setattr(transport_module, "_WRITTEN_WITHIN", 0.05)
    monkeypatch.setattr(transport_module, "_ANSWER_WITHIN", 3600.0)

    async def story(transport: Transport) -> None:
        reading = asyncio.create_task(transport.request(READ))
        with pytest.raises(ApiError, match="does not answer in time"):
            await transport.request(WRITE)
        assert not reading.done()
        reading.cancel()
        await asyncio.wait({reading})

    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await reader.read()
        writer.close()

    async def served() -> None:
        listening = await asyncio.start_server(never, "127.0.0.1", 0)
        path = write_kubeconfig(tmp_path / "config", listening.sockets[0].getsockname()[1])
        plan = KubernetesPlan(pod_name="carp-1", pod_namespace="edge", role_label="carp-role", kubeconfig=path)
        transport = Transport(plan, MirrorStatus())
        try:
            await story(transport)
        finally:
            await transport.close()
            listening.close()

    asyncio.run(served())


def test_a_server_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        kubeconfig = write_kubeconfig(tmp_path / "config", closed.getsockname()[1])
    error = fault(kubeconfig)
    assert error.status is None
    assert str(error).startswith("the API server cannot be reached: ")


def test_a_name_that_nobody_resolves_is_an_error(tmp_path: Path) -> None:
    kubeconfig = write_kubeconfig(tmp_path / "config", 6443)
    path = Path(kubeconfig)
    path.write_text(path.read_text().replace("127.0.0.1", "api.invalid"))
    assert fault(kubeconfig).status is None


@pytest.mark.parametrize("trouble", ["no name", "no port", "401", "hung up"])
def test_trouble_that_lasts_takes_no_more_memory_each_time(
    server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    kubeconfig = server.kubeconfig(tmp_path / "config")
    if trouble == "no port":
        with socket.create_server(("127.0.0.1", 0)) as closed:
            write_kubeconfig(tmp_path / "config", closed.getsockname()[1])
    if trouble == "no name":
        path = tmp_path / "config"
        path.write_text(path.read_text().replace("127.0.0.1", "api.invalid"))

        def nobody(*_: object, **__: object) -> None:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

        monkeypatch.setattr(socket, "getaddrinfo", nobody)
    said = (401, b"{}") if trouble == "401" else None

    async def story(transport: Transport) -> list[int]:
        objects: list[int] = []
        for _ in range(3):
            for _ in range(40):
                server.answers[:] = [said] * 8
                with pytest.raises(ApiError):
                    await transport.request(READ)
                server.requests.clear()
            await asyncio.sleep(0.05)
            gc.collect()
            objects.append(len(gc.get_objects()))
        return objects

    tracer = threading.gettrace()
    threading.settrace(None)  # coverage keeps something of each thread of the server
    try:
        first, second, third = call(kubeconfig, story)
    finally:
        threading.settrace(tracer)
    assert min(second - first, third - second) < 40, "not even one object for each attempt"


@pytest.mark.parametrize(
    "content", [None, "{}", "", "[", "\0", "text"], ids=["missing", "bare", "empty", "broken", "binary", "no-mapping"]
)
def test_a_kubeconfig_that_cannot_be_used_is_an_error_that_names_it(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "config"
    if content is not None:
        path.write_text(content)
    error = fault(str(path))
    assert error.status is None
    assert str(error).startswith(f"cannot read KUBECONFIG {path}: ")


def test_outside_a_pod_there_is_no_service_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    assert str(fault("")).startswith("cannot read the pod's service account: ")


def test_a_connection_is_given_up_when_nobody_acknowledges() -> None:
    with _socket((socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", 1))) as sock:
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 2000
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1


def test_what_is_asked_is_json_by_a_name_of_its_own_and_a_selector_goes_out_whole(
    server: ScriptedServer, tmp_path: Path
) -> None:
    server.answers.append((200, json.dumps({"a": 1}).encode()))
    query = (("labelSelector", "app=carp,tier in (a b, c)"), ("resourceVersion", ""))
    asked = dataclasses.replace(READ, query=query)
    call(server.kubeconfig(tmp_path / "config"), lambda transport: transport.request(asked))
    (request,) = server.requests
    assert request.headers["accept"] == "application/json"
    assert request.headers["user-agent"] == f"carp-sidecar/{__version__}"
    assert "+" not in request.path
    assert parse_qsl(urlsplit(request.path).query, keep_blank_values=True) == list(query)
