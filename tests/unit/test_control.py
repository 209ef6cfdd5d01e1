"""The control socket: one server, clients of every kind, and what each is told."""

from __future__ import annotations

import os
import select
import socket
import stat
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from sidecar.control import SOCKET_NAME, ControlError, ControlServer, ask_drain, ask_maintenance, ask_status
from sidecar.ipc.channel import Channel, ChannelClosedError
from sidecar.ipc.messages import (
    Done,
    Drain,
    Drained,
    GroupStatus,
    InterfaceStatus,
    Maintain,
    StatusReply,
    StatusRequest,
    Stop,
    Unavailable,
)
from sidecar.reactor import Reactor

CLIENTS = 16


def reply(token: int, node: str = "node-1") -> StatusReply:
    return StatusReply(token=token, node=node, groups=(), interfaces=())


def group(name: str) -> GroupStatus:
    return GroupStatus(
        name=name, interface="eth0", vhid=1, vips=("10.0.0.200/32",), role="master", since=0.0, reason="start",
        detail="", master=None, source="10.0.0.11", transitions=0, advbase=1, advskew=0, adverts_sent=0,
        adverts_received=0, send_errors=0, drops={},
    )  # fmt: skip


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "run" / "carp-sidecar"


@pytest.fixture
def server(directory: Path) -> Iterator[ControlServer]:
    server = ControlServer(directory)
    yield server
    server.close()


@pytest.fixture
def listener(server: ControlServer) -> int:
    return server.open().fileno()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as pool:
        yield pool


@pytest.fixture
def sockets() -> Iterator[list[socket.socket]]:
    opened: list[socket.socket] = []
    yield opened
    for sock in opened:
        sock.close()


def wait_readable(fd: int) -> None:
    assert select.select([fd], [], [], 10)[0], "nothing came"


def connect(directory: Path, sockets: list[socket.socket]) -> socket.socket:
    """Be a client of another kind than ``ask_status``."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sockets.append(sock)
    sock.settimeout(10)
    sock.connect(str(directory / SOCKET_NAME))
    return sock


def accept(server: ControlServer, listener: int) -> int:
    """Return the descriptor of the next client."""
    wait_readable(listener)
    client = server.accept()
    assert client is not None
    return client.fileno()


# The one who asks ----------------------------------------------------------------------------------------------------


def test_a_question_is_passed_on_and_its_answer_back(
    server: ControlServer, listener: int, directory: Path, pool: ThreadPoolExecutor
) -> None:
    asked: Future[StatusReply] = pool.submit(ask_status, directory)
    fd = accept(server, listener)
    wait_readable(fd)
    request = server.request(fd)
    assert request is not None
    server.answer(reply(request.token))
    assert asked.result(10) == reply(request.token)
    wait_readable(fd)
    assert server.request(fd) is None  # it has left
    assert server.clients == {}


def test_two_who_ask_at_once_get_each_their_own_answer(
    server: ControlServer, listener: int, directory: Path, pool: ThreadPoolExecutor
) -> None:
    requests: list[tuple[Future[StatusReply], StatusRequest]] = []
    for _ in range(2):
        future = pool.submit(ask_status, directory)
        fd = accept(server, listener)
        wait_readable(fd)
        request = server.request(fd)
        assert request is not None
        requests.append((future, request))
    for _, request in reversed(requests):
        server.answer(reply(request.token, node=f"answer {request.token}"))
    nodes = [future.result(10).node for future, _ in requests]
    assert nodes == [f"answer {request.token}" for _, request in requests]
    assert nodes[0] != nodes[1]


def test_a_status_of_several_pages_is_put_together(
    server: ControlServer, listener: int, directory: Path, pool: ThreadPoolExecutor
) -> None:
    asked: Future[StatusReply] = pool.submit(ask_status, directory)
    fd = accept(server, listener)
    for first, more in ((0, 2), (2, 3), (3, None)):
        wait_readable(fd)
        request = server.request(fd)
        assert request is not None
        assert request.first == first
        links = (InterfaceStatus(name=f"eth{first}", up=True, drops={}),)
        groups = tuple(group(f"g{number}") for number in range(first, more or 5))
        server.answer(StatusReply(token=request.token, more=more, node="node-1", groups=groups, interfaces=links))
    whole = asked.result(10)
    assert [each.name for each in whole.groups] == ["g0", "g1", "g2", "g3", "g4"]
    assert [link.name for link in whole.interfaces] == ["eth3"]  # the newest


def test_an_answer_that_is_too_long_for_the_client_is_refused_in_words(
    server: ControlServer, listener: int, directory: Path, pool: ThreadPoolExecutor
) -> None:
    asked: Future[StatusReply] = pool.submit(ask_status, directory)
    fd = accept(server, listener)
    wait_readable(fd)
    request = server.request(fd)
    assert request is not None
    server.answer(reply(request.token, node="x" * 500_000))
    with pytest.raises(ControlError, match=r"has no answer: StatusReply is longer than the socket's buffer$"):
        asked.result(10)
    assert server.clients == {}


def test_nobody_there_is_said_with_the_remedy(directory: Path) -> None:
    with pytest.raises(ControlError) as caught:
        ask_status(directory)
    assert str(caught.value) == (
        f"no carp-sidecar answers at {directory}/control.sock (No such file or directory); is it running, as this "
        f"user, with CARP_RUNTIME_DIR={directory}?"
    )


def test_a_socket_file_that_was_left_behind_answers_nobody(directory: Path) -> None:
    leave_a_stale_socket(directory)
    with pytest.raises(ControlError, match=r"no carp-sidecar answers at .* \(Connection refused\)"):
        ask_status(directory)


def leave_a_stale_socket(directory: Path) -> None:
    directory.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as dead:
        dead.bind(str(directory / SOCKET_NAME))


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"\1nonsense", "did not answer"),
        (b"\1" + b'{"kind":"Stop"}', "is no carp-sidecar of this version"),
        (b"", "did not answer"),  # hangs up
    ],
    ids=["nonsense", "another-message", "hangs-up"],
)
def test_another_answer_is_an_error_and_no_traceback(
    *, server: ControlServer, listener: int, directory: Path, pool: ThreadPoolExecutor, said: bytes, words: str
) -> None:
    asked = pool.submit(ask_status, directory)
    fd = accept(server, listener)
    wait_readable(fd)
    client = server.clients[fd]
    if said:
        client.socket.send(said)
    else:
        server.drop(fd)
    with pytest.raises(ControlError, match=words):
        asked.result(10)


@pytest.mark.parametrize("reason", ["", "new disks", None])
def test_an_order_is_passed_on_and_its_answer_back(
    *, server: ControlServer, listener: int, directory: Path, pool: ThreadPoolExecutor, reason: str | None
) -> None:
    ordered = pool.submit(ask_maintenance, directory, reason=reason)
    fd = accept(server, listener)
    wait_readable(fd)
    assert server.request(fd) == Maintain(reason=reason)
    server.tell(fd, Done(text="as you say"))
    assert ordered.result(10) == "as you say"


def test_a_drain_is_passed_on_and_what_came_of_it_back(
    server: ControlServer, listener: int, directory: Path, pool: ThreadPoolExecutor
) -> None:
    ordered = pool.submit(ask_drain, directory)
    fd = accept(server, listener)
    wait_readable(fd)
    assert server.request(fd) == Drain()
    done = Drained(taken={"web": "10.0.0.12 advertises"}, left=("db",))
    server.tell(fd, done)
    assert ordered.result(10) == done
    server.drop(fd)
    server.tell(fd, done)  # it has not waited for it


def test_an_order_that_is_refused_or_not_understood_is_an_error(
    server: ControlServer, listener: int, directory: Path, pool: ThreadPoolExecutor
) -> None:
    for answer, words in ((Unavailable(why="not now"), "has no answer: not now"), (reply(1), "of this version")):
        ordered = pool.submit(ask_maintenance, directory, reason="x")
        fd = accept(server, listener)
        wait_readable(fd)
        server.request(fd)
        server.tell(fd, answer)
        with pytest.raises(ControlError, match=words):
            ordered.result(10)
        server.drop(fd)


# The server ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("listener")
def test_only_the_owner_may_ask(directory: Path) -> None:
    assert stat.S_IMODE((directory / SOCKET_NAME).stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_a_socket_file_that_was_left_behind_is_replaced(directory: Path, sockets: list[socket.socket]) -> None:
    leave_a_stale_socket(directory)
    server = ControlServer(directory)
    server.open()
    connect(directory, sockets)
    server.close()


def test_a_second_instance_is_refused_and_leaves_the_first_alone(
    server: ControlServer, listener: int, directory: Path, sockets: list[socket.socket]
) -> None:
    second = ControlServer(directory)
    with pytest.raises(ControlError, match=f"^another carp-sidecar runs with the runtime directory {directory}$"):
        second.open()
    second.close()
    accept(server, listener)  # the second one's look
    connect(directory, sockets)
    accept(server, listener)


def test_a_directory_that_cannot_be_made_or_used_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ControlError, match=f"^cannot create {tmp_path}/file/run: Not a directory$"):
        ControlServer(tmp_path / "file" / "run").open()
    with pytest.raises(ControlError, match=f"^cannot create {tmp_path}/file: File exists$"):
        ControlServer(tmp_path / "file").open()
    (tmp_path / SOCKET_NAME).mkdir()
    with pytest.raises(ControlError, match=f"^cannot listen on {tmp_path}/control.sock: Is a directory$"):
        ControlServer(tmp_path).open()
    with pytest.raises(ControlError, match=r"^cannot listen on .*: AF_UNIX path too long$"):
        ControlServer(tmp_path / ("x" * 120)).open()


def test_closing_hangs_up_and_removes_the_socket(
    server: ControlServer, listener: int, directory: Path, sockets: list[socket.socket]
) -> None:
    client = connect(directory, sockets)
    accept(server, listener)
    server.close()
    assert client.recv(100) == b""
    assert list(directory.iterdir()) == []
    server.close()


@pytest.mark.usefixtures("listener")
def test_without_clients_there_is_none_to_accept(server: ControlServer) -> None:
    assert server.accept() is None


def test_an_idle_client_asks_nothing_yet(
    server: ControlServer, listener: int, directory: Path, sockets: list[socket.socket]
) -> None:
    connect(directory, sockets)
    fd = accept(server, listener)
    assert server.request(fd) is None
    assert fd in server.clients


def test_it_serves_whoever_comes_in_the_reactors_turns(
    server: ControlServer, directory: Path, pool: ThreadPoolExecutor, sockets: list[socket.socket]
) -> None:
    server.open()
    reactor, orders = Reactor(), []

    def obey(fd: int, request: StatusRequest | Maintain) -> None:
        orders.append(type(request).__name__)
        if isinstance(request, Maintain):
            server.tell(fd, Done(text="done"))
        else:
            server.refuse(request.token, "not now")

    server.serve(reactor, obey)
    connect(directory, sockets).send(b"nonsense")
    status, order = pool.submit(ask_status, directory), pool.submit(ask_maintenance, directory, reason="x")
    while len(orders) < 2 or server.clients:
        reactor.turn(10)
    assert order.result(10) == "done"
    with pytest.raises(ControlError, match="not now"):
        status.result(10)
    assert sorted(orders) == ["Maintain", "StatusRequest"]


# Clients of every kind -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\n", b"\1{}", b"\1" + b" " * 200_000], ids=["http", "json", "long"])
def test_nonsense_is_hung_up_on(
    server: ControlServer, listener: int, directory: Path, sockets: list[socket.socket], said: bytes
) -> None:
    client = connect(directory, sockets)
    fd = accept(server, listener)
    client.send(said)
    assert server.request(fd) is None
    assert server.clients == {}
    with pytest.raises(ChannelClosedError):
        Channel(client).receive()


def test_a_client_may_ask_and_nothing_else(
    server: ControlServer, listener: int, directory: Path, sockets: list[socket.socket]
) -> None:
    client = connect(directory, sockets)
    fd = accept(server, listener)
    Channel(client).send(Stop())
    assert server.request(fd) is None
    assert server.clients == {}


def test_descriptors_that_a_client_sends_are_closed(
    server: ControlServer, listener: int, directory: Path, sockets: list[socket.socket]
) -> None:
    client = Channel(connect(directory, sockets))
    fd = accept(server, listener)
    before = len(list(Path("/proc/self/fd").iterdir()))
    client.send(StatusRequest(token=0), [0, 1])
    assert server.request(fd) is not None
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_one_client_too_many_is_hung_up_on_and_the_others_stay(
    server: ControlServer, listener: int, directory: Path, sockets: list[socket.socket]
) -> None:
    for _ in range(CLIENTS):
        connect(directory, sockets)
        accept(server, listener)
    one_too_many = connect(directory, sockets)
    wait_readable(listener)
    assert server.accept() is None
    assert one_too_many.recv(100) == b""
    assert len(server.clients) == CLIENTS
    server.drop(next(iter(server.clients)))
    connect(directory, sockets)
    accept(server, listener)


def test_an_answer_to_nobody_is_dropped(
    server: ControlServer, listener: int, directory: Path, sockets: list[socket.socket]
) -> None:
    server.answer(reply(99))
    client = connect(directory, sockets)
    fd = accept(server, listener)
    Channel(client).send(StatusRequest(token=0))
    request = server.request(fd)
    assert request is not None
    client.close()
    server.answer(reply(request.token))
    assert server.clients == {}
    server.answer(reply(request.token))


def test_a_client_that_never_reads_is_hung_up_on(
    server: ControlServer, listener: int, directory: Path, sockets: list[socket.socket]
) -> None:
    client = Channel(connect(directory, sockets))
    fd = accept(server, listener)
    for _ in range(1000):
        client.send(StatusRequest(token=0))
        request = server.request(fd)
        assert request is not None
        server.answer(reply(request.token, node="x" * 50_000))
        if fd not in server.clients:
            break
    assert server.clients == {}


def test_forgetting_a_client_forgets_its_questions(
    server: ControlServer, listener: int, directory: Path, sockets: list[socket.socket]
) -> None:
    first, second = Channel(connect(directory, sockets)), Channel(connect(directory, sockets))
    fds = [accept(server, listener), accept(server, listener)]
    tokens = []
    for client, fd in zip((first, second), fds, strict=True):
        client.send(StatusRequest(token=0))
        request = server.request(fd)
        assert request is not None
        tokens.append(request.token)
    server.drop(fds[0])
    server.drop(fds[0])
    reused = os.dup(0)  # the next descriptor may have the number of the one that is gone
    server.answer(reply(tokens[0]))
    server.answer(reply(tokens[1]))
    os.close(reused)
    assert second.receive() == (reply(tokens[1]), [])
