"""The forwarder without a namespace: its node's sockets are made here. tests/netns has it in one."""

import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from sidecar.demo.controlplane import free_port
from sidecar.demo.forward import ApiForwarder


@dataclass
class HereNode:
    name: str = "here"

    def open_socket(self, factory: Callable[[], socket.socket]) -> socket.socket:
        return factory()


class Echo(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(line)


@pytest.fixture
def door() -> Iterator[tuple[ApiForwarder, int]]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        port = free_port()
        host, target = server.server_address
        node: Any = HereNode()
        try:
            with ApiForwarder(node, port, target_host=str(host), target_port=int(target)) as forwarder:
                yield forwarder, port
        finally:
            server.shutdown()
            thread.join()


def dial(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10.0)


def echoed(connection: socket.socket, text: bytes) -> bytes:
    connection.sendall(text + b"\n")
    with connection.makefile("rb") as file:
        return file.readline()


def test_it_passes_both_ways_also_what_is_large(door: tuple[ApiForwarder, int]) -> None:
    with dial(door[1]) as connection:
        assert echoed(connection, b"x") == b"x\n"
        large = b"y" * 1_000_000
        assert echoed(connection, large) == large + b"\n"


def test_what_a_client_sent_before_it_shut_its_side_comes_back_in_full(door: tuple[ApiForwarder, int]) -> None:
    with dial(door[1]) as connection:
        connection.sendall(b"a\n" * 100)
        connection.shutdown(socket.SHUT_WR)
        with connection.makefile("rb") as file:
            assert file.read() == b"a\n" * 100


def test_cut_refuses_and_drops_until_restored(door: tuple[ApiForwarder, int]) -> None:
    forwarder, port = door
    with dial(port) as connection:
        assert echoed(connection, b"x") == b"x\n"
        forwarder.cut()
        forwarder.cut()
        assert connection.recv(1) == b""
        with pytest.raises(ConnectionRefusedError):
            dial(port)
    forwarder.restore()
    forwarder.restore()
    with dial(port) as connection:
        assert echoed(connection, b"x") == b"x\n"


def test_hang_takes_connections_and_is_silent_until_restored(door: tuple[ApiForwarder, int]) -> None:
    forwarder, port = door
    with dial(port) as old:
        assert echoed(old, b"x") == b"x\n"
        forwarder.hang()
        with dial(port) as new:
            for connection in (old, new):
                connection.sendall(b"y\n")
                connection.settimeout(0.2)
                with pytest.raises(TimeoutError):
                    connection.recv(1)
            forwarder.restore()
            for connection in (old, new):
                connection.settimeout(10.0)
                assert connection.recv(2) == b"y\n"


def test_hang_after_cut_listens_again(door: tuple[ApiForwarder, int]) -> None:
    forwarder, port = door
    forwarder.cut()
    forwarder.hang()
    with dial(port) as connection:
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        forwarder.cut()
        connection.settimeout(10.0)
        assert connection.recv(1) == b""


def test_a_server_that_refuses_ends_the_connection() -> None:
    node: Any = HereNode()
    port = free_port()
    with (
        ApiForwarder(node, port, target_host="127.0.0.1", target_port=free_port()),
        dial(port) as connection,
    ):
        assert connection.recv(1) == b""


def test_a_port_that_is_taken_is_an_error_and_leaves_nothing_behind() -> None:
    node: Any = HereNode()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        before = threading.active_count()
        with pytest.raises(OSError, match="in use"), ApiForwarder(node, port, target_host="127.0.0.1", target_port=1):
            pass
        assert threading.active_count() == before
