from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from sidecar.demo.relay import Relay, listen_in

TIMEOUT = 10.0


@pytest.fixture
def target() -> socket.socket:
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(TIMEOUT)
    return server


def client_of(listener: socket.socket) -> socket.socket:
    return socket.create_connection(listener.getsockname(), timeout=TIMEOUT)


def test_bytes_pass_both_ways_on_each_connection_and_an_end_is_passed_on(target: socket.socket) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    with target, Relay(listener, target.getsockname()):
        for question in (b"first", b"second"):
            with client_of(listener) as client:
                server, _ = target.accept()
                server.settimeout(TIMEOUT)
                client.sendall(question)
                assert server.recv(100) == question
                server.sendall(b"answer")
                server.close()
                assert client.recv(100) == b"answer"
                assert client.recv(100) == b""


def test_a_target_that_refuses_closes_the_clients_connection(target: socket.socket) -> None:
    address = target.getsockname()
    target.close()
    listener = socket.create_server(("127.0.0.1", 0))
    with Relay(listener, address), client_of(listener) as client:
        assert client.recv(100) == b""


def test_leaving_it_ends_what_is_open_and_frees_the_port(target: socket.socket) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    address = listener.getsockname()
    with target:
        with Relay(listener, target.getsockname()):
            client = client_of(listener)
            server, _ = target.accept()
            client.sendall(b"x")
            assert server.recv(1) == b"x"  # so the relay serves it
        with client, server:
            assert client.recv(100) == b""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=TIMEOUT)


@pytest.mark.netns
def test_a_listener_in_a_namespace_is_seen_there_and_not_here(target: socket.socket) -> None:
    if os.geteuid() != 0:
        reason = "network namespaces need root: run the tests as root"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    holder = ["unshare", "--net", "sh", "-c", "ip link set lo up && echo up && exec sleep 1000"]
    before = Path("/proc/self/ns/net").readlink()
    with target, subprocess.Popen(holder, stdout=subprocess.PIPE, text=True) as inside:
        try:
            assert inside.stdout is not None
            assert inside.stdout.readline() == "up\n"
            listener = listen_in(Path(f"/proc/{inside.pid}/ns/net"), "127.0.0.1")
            port = listener.getsockname()[1]
            with Relay(listener, target.getsockname()):
                ask = f"import socket; socket.create_connection(('127.0.0.1', {port})).sendall(b'hello')"
                subprocess.run(["nsenter", f"--net=/proc/{inside.pid}/ns/net", "python3", "-c", ask], check=True)
                server, _ = target.accept()
                with server:
                    assert server.recv(100) == b"hello"
                with pytest.raises(ConnectionRefusedError):
                    socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)
        finally:
            inside.kill()
    assert Path("/proc/self/ns/net").readlink() == before


def test_a_namespace_that_is_not_there_is_named() -> None:
    with pytest.raises(FileNotFoundError, match="/run/netns/no-such-namespace"):
        listen_in(Path("/run/netns/no-such-namespace"), "127.0.0.1")
