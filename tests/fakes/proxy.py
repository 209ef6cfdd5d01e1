"""Stands between an agent and a real API server, and does to each connection what an unlucky network would.

Plain HTTP towards the agent, TLS towards the server, so that it can also answer itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from sidecar.demo.admin import TLS_SERVER_NAME, Access

_CHUNK = 64 * 1024


class Fault(enum.StrEnum):
    """What happens to everything that passes, and to what is open when it begins."""

    NONE = "none"
    REFUSE = "refuse"
    """Connections are closed, open ones too."""
    HANG = "hang"
    """Nothing passes."""
    TRUNCATE = "truncate"
    """Half of each answer, and then the end."""
    GARBAGE = "garbage"
    """What is no HTTP."""
    HTML = "html"
    """A proxy's error page, with status 200."""
    UNAUTHORIZED = "401"
    FORBIDDEN = "403"
    NOT_FOUND = "404"
    CONFLICT = "409"
    GONE = "410"
    TOO_MANY = "429"
    INTERNAL = "500"
    UNAVAILABLE = "503"


@dataclass
class Proxy:
    """Use ``opened``. ``fault`` may be set at any time by ``become``; ``connections`` and ``requests`` count."""

    access: Access
    fault: Fault = Fault.NONE
    delay: float = 0.0
    connections: int = 0
    requests: int = 0
    port: int = 0
    _flowing: asyncio.Event = field(default_factory=asyncio.Event)
    _open: set[asyncio.Task[None]] = field(default_factory=set)

    def become(self, fault: Fault, *, delay: float = 0.0) -> None:
        """Begin a fault; what is open is cut, unless everything shall hang."""
        self.fault, self.delay = fault, delay
        if fault is Fault.HANG:
            self._flowing.clear()
            return
        self._flowing.set()
        if fault is not Fault.NONE:
            for task in self._open:
                task.cancel()

    def kubeconfig(self, path: Path, token: str) -> str:
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
            "users": [{"name": "c", "user": {"token": token}}],
        }
        path.write_text(json.dumps(document))
        return str(path)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        self.connections += 1
        try:
            await self._pass(reader, writer)
        except (asyncio.CancelledError, OSError, asyncio.IncompleteReadError):
            writer.transport.abort()
        finally:
            writer.close()
            self._open.discard(task)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._flowing.wait()
        if self.fault is Fault.REFUSE:
            writer.transport.abort()
            return
        url = urlsplit(self.access.server)
        context = ssl.create_default_context(cadata=self.access.ca)
        up_reader, up_writer = await asyncio.open_connection(
            url.hostname, url.port, ssl=context, server_hostname=TLS_SERVER_NAME
        )
        answers = asyncio.create_task(self._answer(up_reader, writer))
        try:
            while data := await reader.read(_CHUNK):
                self.requests += data.count(b" HTTP/1.1\r\n")
                await self._flowing.wait()
                await asyncio.sleep(self.delay)
                if said := _said(self.fault):
                    writer.write(said)
                    await writer.drain()
                    return
                up_writer.write(data)
                await up_writer.drain()
        finally:
            answers.cancel()
            up_writer.transport.abort()  # the end of TLS would need an answer, and outlive the test

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK):
                await self._flowing.wait()
                await asyncio.sleep(self.delay)
                if self.fault is Fault.TRUNCATE:
                    writer.write(data[: len(data) // 2])
                    break
                writer.write(data)
                await writer.drain()
            writer.close()


def _said(fault: Fault) -> bytes:
    if fault is Fault.GARBAGE:
        return b"\x00\xff 1\r\n\r\n"
    if fault is Fault.HTML:
        return b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>"
    if not fault.isdigit():
        return b""
    body = json.dumps({"kind": "Status", "message": "says the proxy"}).encode()
    after = b"Retry-After: 1\r\n" if fault is Fault.TOO_MANY else b""
    return b"HTTP/1.1 %s X\r\n%sContent-Length: %d\r\n\r\n%s" % (fault.value.encode(), after, len(body), body)


@contextlib.asynccontextmanager
async def opened(access: Access) -> AsyncIterator[Proxy]:
    proxy = Proxy(access)
    proxy.become(Fault.NONE)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        tasks = list(proxy._open)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
