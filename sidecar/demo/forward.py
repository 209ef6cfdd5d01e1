"""A door from a node's namespace to a TCP server outside of it, which can be shut or made to swallow everything."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from sidecar.demo.lan import Node

_CHUNK = 64 * 1024


class ApiForwarder:
    """Passes connections to 127.0.0.1:``port`` on ``node`` on to a server that this process reaches, while inside.

    The calls return once they have taken effect. They may be repeated and come in any order.
    """

    def __init__(self, node: Node, port: int, *, target_host: str, target_port: int) -> None:
        self._node = node
        self._port = port
        self._target = (target_host, target_port)
        self._loop: asyncio.AbstractEventLoop
        self._thread: threading.Thread
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"forwarder-{self._node.name}", daemon=True)
        self._thread.start()
        try:
            self.restore()
        except OSError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cut(self) -> None:
        """Refuse new connections and drop the open ones: the host of the API server is up, the server is not."""
        self._do(self._shut())

    def hang(self) -> None:
        """Accept connections and say nothing, on the open ones neither; nothing is lost once ``restore`` comes."""
        self._do(self._swallow())

    def restore(self) -> None:
        """Let everything pass. Raises OSError where the port is taken."""
        self._do(self._open())

    def _do(self, action: Coroutine[None, None, None]) -> None:
        asyncio.run_coroutine_threadsafe(action, self._loop).result()

    async def _open(self) -> None:
        await self._listen()
        self._flowing.set()

    async def _swallow(self) -> None:
        await self._listen()
        self._flowing.clear()

    async def _listen(self) -> None:
        if self._server is None:
            listener = self._node.open_socket(self._listener)
            self._server = await asyncio.start_server(self._serve, sock=listener)

    def _listener(self) -> socket.socket:
        return socket.create_server(("127.0.0.1", self._port))

    async def _shut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 -- narrows the type: a callback of asyncio.start_server runs in a task
        self._connections.add(task)
        try:
            await self._connect(reader, writer)
        except asyncio.CancelledError:
            writer.transport.abort()  # `cut`; not passed on, since asyncio would log it as a fault
        finally:
            writer.close()
            self._connections.discard(task)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._flowing.wait()
        try:
            upstream_reader, upstream_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()  # the server refuses: a reset is as near as we can come to that
            return
        try:
            await asyncio.gather(self._pump(reader, upstream_writer), self._pump(upstream_reader, writer))
        finally:
            upstream_writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK):
                await self._flowing.wait()
                writer.write(data)
                await writer.drain()
            writer.write_eof()
