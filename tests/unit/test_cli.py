"""The command line: its commands, what they print and with which exit code they end."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sidecar import __version__
from sidecar.cli import main
from sidecar.control import SOCKET_NAME, ControlServer
from sidecar.ipc.messages import Done, Drain, Drained, Maintain, Message, StatusReply, StatusRequest
from sidecar.reactor import Reactor
from tests.fakes.captures import CAPTURES, advert
from tests.fakes.statuses import status_reply

SECRET = "correct horse"
ENOUGH = {
    "CARP_VHID": "42",
    "CARP_VIPS": "192.0.2.50",
    "CARP_PASSWORD": SECRET,
    "CARP_INTERFACE": "lo",
    "CARP_SOURCE_ADDRESS": "127.0.0.1",
    "CARP_CONFIG_FILE": "",
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No setting of whoever runs the tests."""
    for name in [*os.environ]:
        if name.startswith("CARP_") or name in ("POD_NAME", "POD_NAMESPACE", "NODE_NAME", "KUBECONFIG"):
            monkeypatch.delenv(name)
    return monkeypatch


def give(monkeypatch: pytest.MonkeyPatch, settings: dict[str, str]) -> None:
    for name, value in settings.items():
        if value:
            monkeypatch.setenv(name, value)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(arguments)
    said = capsys.readouterr()
    return code, said.out, said.err


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert (ended.value.code, capsys.readouterr().out) == (0, f"carp-sidecar {__version__}\n")


@pytest.mark.parametrize("arguments", [[], ["unknown"], ["decode"], ["check", "--unknown"]])
def test_another_usage_is_exit_code_2(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("carp-sidecar: ")
    assert said.count("\n") == 1


def test_the_help_names_the_commands_and_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for word in (
        "run",
        "check",
        "status",
        "why",
        "demote",
        "promote",
        "sniff",
        "decode",
        "demo",
        "3 missing privilege",
    ):
        assert word in text


# check and run -------------------------------------------------------------------------------------------------------


def test_check_prints_the_effective_settings_without_the_secret(
    capsys: pytest.CaptureFixture[str], environment: pytest.MonkeyPatch
) -> None:
    give(environment, ENOUGH)
    code, out, err = run(capsys, "check")
    assert (code, err) == (0, "")
    assert "vhid: 42" in out
    assert "'********'" in out
    assert SECRET not in out
    code, out, _ = run(capsys, "check", "--json")
    assert code == 0
    assert json.loads(out)["groups"][0]["vhid"] == 42
    assert SECRET not in out


@pytest.mark.parametrize("command", ["check", "run"])
def test_a_wrong_setting_is_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], environment: pytest.MonkeyPatch, command: str
) -> None:
    give(environment, {**ENOUGH, "CARP_VHID": "256"})
    code, out, err = run(capsys, command)
    assert (code, out) == (2, "")
    assert err.startswith("carp-sidecar: CARP_VHID: 256 is out of range; ")
    assert err.count("\n") == 1
    assert SECRET not in err


def test_an_interface_that_is_not_there_is_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], environment: pytest.MonkeyPatch
) -> None:
    give(environment, {**ENOUGH, "CARP_INTERFACE": "none0"})
    code, out, err = run(capsys, "check")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("carp-sidecar: CARP_INTERFACE: ")
    assert "none0" in err


def test_a_warning_goes_to_stderr_and_changes_no_exit_code(
    capsys: pytest.CaptureFixture[str], environment: pytest.MonkeyPatch
) -> None:
    give(environment, {**ENOUGH, "CARP_DEAD_RATIO": "1"})
    code, out, err = run(capsys, "check", "--json")
    assert code == 0
    assert json.loads(out)["groups"][0]["dead_ratio"] == 1
    assert err.startswith("carp-sidecar: warning: CARP_DEAD_RATIO: ")


def test_a_reader_that_has_had_enough_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    environ = {name: value for name, value in {**os.environ, **ENOUGH}.items() if value}
    done = subprocess.run(
        [sys.executable, "-m", "sidecar", "check"], env=environ, stdout=writer, stderr=subprocess.PIPE, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


# sniff ---------------------------------------------------------------------------------------------------------------


def test_sniff_takes_interfaces_in_one_option_or_several(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["-i", "no-1", "no-2"], ["-i", "no-1", "--interface", "no-2"]):
        code, out, err = run(capsys, "sniff", *arguments)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert err.startswith("carp-sidecar sniff: -i no-1: no such Ethernet interface; there are: ")


def test_sniff_names_an_option_that_cannot_be_used_and_no_setting(
    capsys: pytest.CaptureFixture[str], environment: pytest.MonkeyPatch
) -> None:
    give(environment, {**ENOUGH, "CARP_VHID": "256"})
    code, out, err = run(capsys, "sniff", "--vips", "x")
    assert (code, out) == (2, "")
    assert err == "carp-sidecar sniff: --vips: 'x' is no address; give the group's, as in 10.77.0.100,2001:db8::100\n"


# status --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """The runtime directory of a sidecar that answers one question."""
    server = ControlServer(tmp_path)
    listener = server.open()

    def serve() -> None:
        listener.setblocking(True)
        client = server.accept()
        assert client is not None
        client.socket.setblocking(True)
        request = server.request(client.fileno())
        assert isinstance(request, StatusRequest)
        server.answer(StatusReply(token=request.token, node="node-1", groups=(), interfaces=()))

    thread = threading.Thread(target=serve)
    thread.start()
    yield tmp_path
    thread.join(30)
    server.close()


def test_status_asks_the_running_sidecar(capsys: pytest.CaptureFixture[str], directory: Path) -> None:
    code, out, err = run(capsys, "status", "--json", "--runtime-dir", str(directory))
    assert (code, err) == (0, "")
    assert json.loads(out) == {
        "node": "node-1",
        "settings": None,
        "groups": [],
        "interfaces": [],
        "lag": {"buckets": [], "count": 0, "sum": 0.0, "maximum": 0.0},
    }


def test_status_finds_the_directory_in_the_environment(
    capsys: pytest.CaptureFixture[str], directory: Path, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("CARP_RUNTIME_DIR", str(directory))
    assert run(capsys, "status") == (0, "\n", "")


def test_why_asks_the_running_sidecar_too(capsys: pytest.CaptureFixture[str], directory: Path) -> None:
    code, out, err = run(capsys, "why", "--json", "--runtime-dir", str(directory))
    assert (code, err, json.loads(out)) == (0, "", {"node": "node-1", "groups": []})


def test_status_of_nobody_is_one_line_and_exit_code_1(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, err = run(capsys, "status", "--runtime-dir", str(tmp_path))
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith(f"carp-sidecar: no carp-sidecar answers at {tmp_path}/{SOCKET_NAME} ")


# demote and promote --------------------------------------------------------------------------------------------------


@pytest.fixture
def talkative(tmp_path: Path) -> Iterator[Path]:
    """The runtime directory of a sidecar that answers whoever asks, as often as he asks."""
    server = ControlServer(tmp_path)
    reactor = Reactor()
    server.open()
    over = threading.Event()

    def obey(_: int, request: StatusRequest | Maintain) -> None:
        assert isinstance(request, StatusRequest)
        server.answer(status_reply(token=request.token))

    def serve() -> None:
        server.serve(reactor, obey)
        while not over.is_set():
            reactor.turn(0.05)

    thread = threading.Thread(target=serve)
    thread.start()
    yield tmp_path
    over.set()
    thread.join(30)
    server.close()


def watching(directory: Path, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "sidecar", "status", "--watch", "0.1", "--runtime-dir", str(directory), *arguments]
    environment = {"PATH": os.environ["PATH"], "TERM": "xterm", **options.pop("environment", {})}
    return subprocess.Popen(command, env=environment, **options)


def test_watching_in_a_pipe_appends_blocks_without_colours_until_ctrl_c(talkative: Path) -> None:
    with watching(talkative, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        text = b""
        while text.count(b"web: MASTER") < 3:
            text += process.stdout.read1()
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.wait(30) == 0
    assert b"\x1b" not in text


def test_watching_as_json_is_a_line_each_time_and_goes_on_while_the_sidecar_starts_anew(tmp_path: Path) -> None:
    server = ControlServer(tmp_path)

    def answer() -> None:
        listener.setblocking(True)
        client = server.accept()
        assert client is not None
        client.socket.setblocking(True)
        request = server.request(client.fileno())
        assert isinstance(request, StatusRequest)
        server.answer(status_reply(token=request.token))
        server.drop(client.fileno())

    listener = server.open()
    with watching(tmp_path, "--json", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for _ in range(2):  # the first is to see whether anybody is there
            answer()
        assert json.loads(process.stdout.readline())["node"] == "node-1"
        server.close()
        assert process.stderr.readline().startswith(b"carp-sidecar: no carp-sidecar answers at ")
        server = ControlServer(tmp_path)
        listener = server.open()
        answer()
        assert json.loads(process.stdout.readline())["node"] == "node-1"
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        assert process.returncode == 0
        server.close()


@pytest.mark.parametrize(("no_colour", "role"), [("", b"web: \x1b[1;32mMASTER\x1b[0m "), ("1", b"web: MASTER ")])
def test_watching_on_a_terminal_is_in_place_and_in_colours_unless_told_not_to(
    talkative: Path, no_colour: str, role: bytes
) -> None:
    ours, theirs = pty.openpty()
    with watching(talkative, stdout=theirs, stdin=theirs, environment={"NO_COLOR": no_colour}) as process:
        os.close(theirs)
        text = b""
        while text.count(b"\x1b[H") < 3:
            text += os.read(ours, 65536)
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(OSError):  # EIO: the terminal is gone
            while os.read(ours, 65536):
                pass
        assert process.wait(30) == 0
    os.close(ours)
    assert text.startswith(b"\x1b[2J\x1b[H")
    assert role in text


def test_maintenance_as_json(capsys: pytest.CaptureFixture[str], obedient: tuple[Path, list[object]]) -> None:
    code, out, _ = run(capsys, "demote", "--json", "--runtime-dir", str(obedient[0]))
    assert (code, json.loads(out)) == (0, {"done": "as you say"})


def test_completion_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "completion", "bash")
    assert (code, err) == (0, "")
    assert out.startswith("# bash completion for carp-sidecar")


@pytest.fixture
def obedient(tmp_path: Path) -> Iterator[tuple[Path, list[object]]]:
    """The runtime directory of a sidecar that takes one order, and what it was ordered."""
    with obeying(tmp_path, Done(text="as you say")) as orders:
        yield tmp_path, orders


@contextlib.contextmanager
def obeying(directory: Path, answer: Message) -> Iterator[list[object]]:
    server = ControlServer(directory)
    listener = server.open()
    orders: list[object] = []

    def serve() -> None:
        listener.setblocking(True)
        client = server.accept()
        assert client is not None
        client.socket.setblocking(True)
        orders.append(server.request(client.fileno()))
        server.tell(client.fileno(), answer)

    thread = threading.Thread(target=serve)
    thread.start()
    yield orders
    thread.join(30)
    server.close()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [(["demote"], ""), (["demote", "--reason", "new\n disks\udcff"], "new disks?"), (["promote"], None)],
)
def test_maintenance_is_the_running_sidecars_to_begin_and_end(
    capsys: pytest.CaptureFixture[str],
    obedient: tuple[Path, list[object]],
    arguments: list[str],
    reason: str | None,
) -> None:
    directory, orders = obedient
    assert run(capsys, *arguments, "--runtime-dir", str(directory)) == (0, "as you say\n", "")
    assert orders == [Maintain(reason=reason)]


@pytest.mark.parametrize("command", ["demote", "promote", "drain"])
def test_maintenance_of_nobody_is_one_line_and_exit_code_1(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, command: str
) -> None:
    code, out, err = run(capsys, command, "--runtime-dir", str(tmp_path))
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith(f"carp-sidecar: no carp-sidecar answers at {tmp_path}/{SOCKET_NAME} ")


@pytest.mark.parametrize(
    ("done", "code", "lines"),
    [
        (Drained(), 0, ["nothing to hand over: this node is master of no group"]),
        (Drained(taken={"web": "10.0.0.12 advertises"}), 0, ["web: handed over: 10.0.0.12 advertises"]),
        (
            Drained(taken={"web": "x"}, left=("db",)),
            1,
            ["web: handed over: x", "db: nobody has taken over; this node goes on"],
        ),
    ],
)
def test_a_drain_says_what_became_of_each_group(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, done: Drained, code: int, lines: list[str]
) -> None:
    for option in ((), ("--json",)):
        with obeying(tmp_path, done) as orders:
            found, out, err = run(capsys, "drain", "--runtime-dir", str(tmp_path), *option)
        assert (found, err, orders) == (code, "", [Drain()])
        told = {"taken": done.taken, "left": list(done.left)}
        assert json.loads(out) == told if option else out.splitlines() == lines


# decode --------------------------------------------------------------------------------------------------------------


def test_decode_explains_packets(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("secret\n")
    options = ("--json", "--vips", "10.77.0.100", "--password-file", str(password))
    code, out, err = run(capsys, "decode", *options, advert().hex(), str(CAPTURES / "01-start-master.pcap"))
    records = [json.loads(line) for line in out.splitlines()]
    assert (code, err) == (0, "")
    assert len(records) > 1
    assert (records[0]["vhid"], records[0]["authentic"], records[0]["reason"]) == (42, True, None)


def test_decode_of_a_file_that_is_not_there_is_exit_code_1(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, err = run(capsys, "decode", str(tmp_path / "none.pcap"))
    assert (code, out, err.count("\n")) == (1, "", 1)
