"""The HTTP listener on a real socket: who is answered, who is not, and what a stranger may cost."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable

import pytest

from sidecar.agent import listener
from sidecar.agent.listener import CONNECTIONS_AT_MOST, Listener, is_of, names_loopback
from sidecar.agent.site import TEXT, Answer, Site


class Pages(Site):
    def __init__(self) -> None:
        self.asked: list[str] = []

    async def get(self, path: str) -> Answer:
        self.asked.append(path)
        return Answer(200, TEXT, b"a page\n", {"X-Own": "yes"})


async def ended(reader: asyncio.StreamReader) -> bytes:
    """Return everything until the listener hangs up, which it does before anybody's patience ends."""
    async with asyncio.timeout(60):
        return await reader.read()


class Scene:
    """A listener on a port of its own, and clients by the raw socket."""

    def __init__(self, address: str, pod: str = "") -> None:
        self.address = address
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family) as probe:
            probe.bind((address, 0))
            self.port = probe.getsockname()[1]
        self.pages = Pages()
        self.where = f"[{address}]:{self.port}" if ":" in address else f"{address}:{self.port}"
        self.listener = Listener(self.where, self.pages, pod=pod)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while True:
            try:
                return await asyncio.open_connection(self.address, self.port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.01)

    async def says(self, request: str) -> str:
        """Return everything until the listener hangs up."""
        reader, writer = await self.connect()
        writer.write(request.encode("latin-1"))
        answer = await ended(reader)
        writer.close()
        return answer.decode("latin-1")

    async def get(self, path: str = "/healthz", *, host: str = "localhost", method: str = "GET", more: str = "") -> str:
        return await self.says(f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n")


def play(scene: Callable[[Scene], Awaitable[None]], address: str = "127.0.0.1", pod: str = "") -> None:
    async def run() -> None:
        made = Scene(address, pod)
        work = asyncio.create_task(made.listener.run())
        try:
            await scene(made)
        finally:
            work.cancel()
            await asyncio.wait([work])

    asyncio.run(run())


def test_a_page_with_headers_that_keep_others_out_and_the_connection_closed() -> None:
    async def scene(made: Scene) -> None:
        head, _, body = (await made.get("/metrics?x=1")).partition("\r\n\r\n")
        assert head.startswith("HTTP/1.1 200 OK\r\n")
        for line in (
            "X-Own: yes",
            "Content-Security-Policy: default-src 'none'; frame-ancestors 'none'",
            "X-Content-Type-Options: nosniff",
            "Cross-Origin-Resource-Policy: same-origin",
            "Cache-Control: no-store",
            "Server: carp-sidecar",
            "Connection: close",
        ):
            assert line in head.split("\r\n")
        assert "Access-Control" not in head
        assert body == "a page\n"
        assert made.pages.asked == ["/metrics"]

    play(scene)


def test_over_ipv6_and_by_head() -> None:
    async def scene(made: Scene) -> None:
        answer = await made.get(host=f"[::1]:{made.port}", method="HEAD")
        assert answer.startswith("HTTP/1.1 200 OK\r\n")
        assert answer.endswith("\r\n\r\n")

    play(scene, "::1")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT"])
def test_nothing_can_be_written(method: str) -> None:
    async def scene(made: Scene) -> None:
        path = "localhost:80" if method == "CONNECT" else "/healthz"
        answer = await made.get(path, method=method, more="Content-Length: 5\r\n")
        assert answer.startswith("HTTP/1.1 405 ")
        assert made.pages.asked == []

    play(scene)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:9112", "10.0.0.11", "", "localhost.evil.example"])
def test_on_loopback_a_foreign_name_is_not_answered(host: str) -> None:
    async def scene(made: Scene) -> None:
        answer = await made.get(host=host)
        assert answer.startswith("HTTP/1.1 421 ")
        assert made.pages.asked == []

    play(scene)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("LocalHost:9112", True),
        ("127.0.0.1", True),
        ("127.0.0.1:8080", True),
        ("127.8.8.8", True),
        ("[::1]", True),
        ("[::1]:9112", True),
        ("[localhost]", True),
        ("::1", False),
        ("[10.0.0.1]", False),
        ("127.0.0.1.evil.example", False),
        ("evil.example#localhost", False),
        ("2130706433", False),
        ("0.0.0.0", False),
        ("", False),
        ("[", False),
    ],
)
def test_which_hosts_can_only_mean_loopback(*, host: str, loopback: bool) -> None:
    assert names_loopback(host) is loopback


def test_elsewhere_any_name_is_answered_and_the_log_warns(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(made: Scene) -> None:
        answer = await Scene.get(made, host="node-1.example")
        assert answer.startswith("HTTP/1.1 200 OK\r\n")

    play(scene, "0.0.0.0")
    (warning,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "whoever reaches it may read the status" in warning.getMessage()


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        ("GET /" + "a" * 4000 + " HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: localhost\r\nX: " + "a" * 4000 + "\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: localhost\r\n" + "X: a\r\n" * 300 + "\r\n", 400),
        ("\x16\x03\x01\x02\x00\x01\r\n\r\n", 400),
        ("GET / HTTP/9.9\r\n\r\n", 400),
    ],
    ids=["long-line", "long-header", "many-headers", "tls", "version"],
)
def test_what_is_too_much_or_no_http_is_refused_without_a_line_in_the_log(
    request_line: str, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(made: Scene) -> None:
        answer = await made.says(request_line)
        assert answer.startswith((f"HTTP/1.1 {status} ", f"HTTP/1.0 {status} "))
        assert "a" * 100 not in answer
        assert made.pages.asked == []

    play(scene)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_connection_that_only_sits_there_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "CONNECTION_LASTS", 0.05)

    async def scene(made: Scene) -> None:
        assert await made.says("GET / HT") == ""

    play(scene)


def test_a_probe_gets_in_past_those_who_only_sit_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "CONNECTION_LASTS", 3600.0)

    async def scene(made: Scene) -> None:
        sitting = [await made.connect() for _ in range(CONNECTIONS_AT_MOST + 5)]
        assert (await made.get()).startswith("HTTP/1.1 200 OK\r\n")
        assert await ended(sitting[0][0]) == b""  # the oldest had to go
        for _, writer in sitting:
            writer.close()

    play(scene)


def test_a_port_that_is_taken_is_a_warning_and_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(listener, "TRY_AGAIN_AFTER", 0.01)

    async def run() -> None:
        made = Scene("127.0.0.1")
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind((made.address, made.port))
            other.listen()
            work = asyncio.create_task(made.listener.run())
            while not caplog.messages:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)
            assert not work.done()
        assert (await made.get()).startswith("HTTP/1.1 200 OK\r\n")
        work.cancel()
        await asyncio.wait([work])

    asyncio.run(run())
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "cannot listen at 127.0.0.1:" in warning
    assert "set CARP_HTTP_LISTEN to another port, or to off" in warning


def test_a_probe_that_means_another_pod_is_not_answered_for_it() -> None:
    async def scene(made: Scene) -> None:
        for path in ("/readyz", "/readyz?daemonset=team-a/web"):
            assert (await made.get(path)).startswith("HTTP/1.1 200 "), path
        refused = await made.get("/readyz?daemonset=team-b/web")
        assert refused.startswith("HTTP/1.1 503 ")
        assert "team-a/web-x1y2z answers at this port: give each sidecar" in refused
        assert made.pages.asked == ["/readyz"] * 2

    play(scene, pod="team-a/web-x1y2z")


@pytest.mark.parametrize(
    ("pod", "daemonset", "its"),
    [
        ("carp/carp-sidecar-x1y2z", "carp/carp-sidecar", True),
        ("carp/carp-sidecar-2-x1y2z", "carp/carp-sidecar", False),
        ("carp/carp-sidecar-2-x1y2z", "carp/carp-sidecar-2", True),
        ("carp-2/sidecar-x1y2z", "carp/sidecar", False),
        ("kube-system/carp-sidecar-control-1", "carp/carp-sidecar", False),
        ("", "carp/carp-sidecar", False),
        ("carp/x", "", False),
    ],
)
def test_whose_pod_it_is(pod: str, daemonset: str, its: bool) -> None:
    assert is_of(pod, daemonset) is its
