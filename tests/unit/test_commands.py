"""The up and down commands: tiny real scripts, run in order, reaped as the parent reaps."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sidecar.children import reap
from sidecar.commands import AT_ONCE, TIME_LIMIT, YOUNG, Commands
from sidecar.ipc.plan import GroupPlan
from sidecar.reactor import Reactor
from tests.fakes.plans import group_plan

PATIENCE = 60.0
"""Until what must come counts as missing: far above what it takes."""


@pytest.fixture(autouse=True)
def every_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


class Host:
    """A parent with nothing but commands, whose scripts write to ``said``."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.said = directory / "said"
        self.said.write_text("")
        self.reactor = Reactor()
        self.commands = Commands((), self.reactor)
        self.now = 1000.0
        """What the commands' clock shows: it stands still, however slow the machine is."""

    def script(self, name: str, body: str = "") -> tuple[str, ...]:
        """Write a script that tells its name and arguments, and then does ``body``."""
        path = self.directory / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >> {self.said}\n{body}\n')
        path.chmod(0o755)
        return (str(path),)

    def group(self, up: str = "", down: str = "", **changes: object) -> GroupPlan:
        plan: dict[str, object] = {"vips": ("10.0.0.200/24",), "neutral": True, **changes}
        return group_plan(up_command=self.script("up", up), down_command=self.script("down", down), **plan)

    def run(self, *groups: GroupPlan) -> Commands:
        self.commands = Commands(groups, self.reactor, clock=lambda: self.now)
        self.commands.begin()
        return self.commands

    def serve(self, until: Callable[[], object] | None = None) -> list[str]:
        """Turn until ``until`` holds, or nothing runs; return what the scripts have told."""
        deadline = time.monotonic() + PATIENCE
        while not (until() if until else self.commands.idle):
            assert time.monotonic() < deadline, f"it does not come; said: {self.told()}"
            self.reactor.turn(0.01)
            for run, code in reap(self.commands.running):
                self.commands.ended(run, code)
        return self.told()

    def told(self) -> list[str]:
        return self.said.read_text().splitlines()


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    host = Host(tmp_path)
    yield host
    processes = [run.process for run in host.commands.running]
    host.commands.kill()
    for process in processes:
        process.wait()


# What runs, and in which order ----------------------------------------------------------------------------------------


def test_the_arguments_are_ucarps_for_each_vip(host: Host) -> None:
    commands = host.run(host.group(vips=("10.0.0.200/24", "fd00::200/128"), xparam="two words"))
    commands.follow("web", held=True)
    host.serve()
    commands.follow("web", held=False)
    assert host.serve() == [
        "up eth0 10.0.0.200 two words",
        "up eth0 fd00::200 two words",
        "down eth0 10.0.0.200 two words",
        "down eth0 fd00::200 two words",
    ]


def test_without_xparam_there_are_two_arguments_after_the_commands_own(host: Host) -> None:
    command = (*host.script("up", f'echo "$#: $3" >> {host.said}'), "-v", "a b")
    commands = host.run(group_plan(vips=("10.0.0.200/24",), up_command=command))
    commands.follow("web", held=True)
    assert host.serve() == ["up -v a b eth0 10.0.0.200", "4: eth0"]


def test_what_is_held_since_an_earlier_run_has_had_its_up_command(host: Host) -> None:
    commands = Commands([host.group(neutral=False)], host.reactor, clock=lambda: host.now)
    host.commands = commands
    commands.begin(held=["web"])
    commands.follow("web", held=True)
    assert commands.idle
    commands.follow("web", held=False)
    assert host.serve() == ["down eth0 10.0.0.200"]


def test_the_down_command_runs_at_the_start_unless_neutral(host: Host) -> None:
    host.run(host.group(neutral=False))
    assert host.serve() == ["down eth0 10.0.0.200"]
    host.run(host.group(neutral=True))
    assert host.serve() == ["down eth0 10.0.0.200"]


def test_what_has_not_changed_runs_nothing(host: Host) -> None:
    commands = host.run(host.group())
    commands.follow("web", held=False)
    for _ in range(3):
        commands.follow("web", held=True)
    commands.follow("stranger", held=True)
    assert host.serve() == ["up eth0 10.0.0.200"]


def test_a_group_with_one_command_runs_that_one(host: Host) -> None:
    commands = host.run(group_plan(vips=("10.0.0.200/24",), down_command=host.script("down")))
    host.serve()
    commands.follow("web", held=True)
    host.serve()
    commands.follow("web", held=False)
    assert host.serve() == ["down eth0 10.0.0.200"] * 2


def waits_for(path: Path) -> str:
    return f"while [ ! -e {path} ]; do sleep 0.01; done"


def test_a_down_never_overtakes_its_up(host: Host) -> None:
    gate = host.directory / "gate"
    commands = host.run(host.group(up=f"{waits_for(gate)}; echo up is done >> {host.said}"))
    commands.follow("web", held=True)
    host.serve(host.told)
    commands.follow("web", held=False)
    (run,) = commands.running
    gate.touch()
    assert host.serve() == ["up eth0 10.0.0.200", "up is done", "down eth0 10.0.0.200"]
    assert run.process.returncode == 0


def test_a_queued_command_that_is_overtaken_does_not_run(host: Host) -> None:
    gate = host.directory / "gate"
    commands = host.run(host.group(up=waits_for(gate)))
    commands.follow("web", held=True)
    host.serve(host.told)
    commands.follow("web", held=False)
    commands.follow("web", held=True)
    gate.touch()
    assert host.serve() == ["up eth0 10.0.0.200"]
    commands.follow("web", held=False)
    assert host.serve()[1:] == ["down eth0 10.0.0.200"]


def test_runs_for_further_vips_are_dropped_by_a_newer_role_and_begin_anew(host: Host) -> None:
    gate = host.directory / "gate"
    commands = host.run(host.group(up=waits_for(gate), vips=("10.0.0.1/32", "10.0.0.2/32")))
    commands.follow("web", held=True)
    host.serve(host.told)
    commands.follow("web", held=False)
    gate.touch()
    assert host.serve() == ["up eth0 10.0.0.1", "down eth0 10.0.0.1", "down eth0 10.0.0.2"]
    commands.follow("web", held=True)
    assert host.serve()[3:] == ["up eth0 10.0.0.1", "up eth0 10.0.0.2"]


def test_groups_do_not_wait_for_one_another(host: Host) -> None:
    hanging = host.group(up="sleep 1000")
    db = group_plan(name="db", vips=("10.0.0.201/32",), neutral=True, up_command=host.script("other"))
    commands = host.run(hanging, db)
    commands.follow("web", held=True)
    commands.follow("db", held=True)
    host.serve(lambda: len(host.told()) == 2)
    host.serve(lambda: len(commands.running) == 1)
    assert [run.group for run in commands.running] == ["web"]


def many(host: Host, body: str) -> list[GroupPlan]:
    up = host.script("up", body)
    return [group_plan(name=f"g{n}", vips=(f"10.0.0.{n}/32",), neutral=True, up_command=up) for n in range(1, 21)]


def test_many_commands_at_once_take_turns(host: Host) -> None:
    commands = host.run(*many(host, ""))
    most = 0
    for n in range(1, 21):
        commands.follow(f"g{n}", held=True)
        most = max(most, len(commands.running))
    assert most == AT_ONCE
    assert sorted(host.serve()) == sorted(f"up eth0 10.0.0.{n}" for n in range(1, 21))


def test_commands_that_hang_keep_others_waiting_for_a_moment_only(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    commands = host.run(*many(host, "exec sleep 1000"))
    for n in range(1, 21):
        commands.follow(f"g{n}", held=True)
    commands.tick(host.now)
    assert len(commands.running) == AT_ONCE
    assert commands.next() == host.now + YOUNG
    host.now += YOUNG
    commands.tick(host.now)
    assert len(commands.running) == 2 * AT_ONCE
    commands.follow("g20", held=False)
    processes = [run.process for run in commands.running]
    commands.kill()
    assert {process.wait() for process in processes} == {-9}
    assert [message for message in caplog.messages if "not run any more" in message] == [
        f"the up command of group g{n} is not run any more" for n in (17, 18, 19)
    ]


def test_at_the_stop_only_groups_that_want_it_run_their_down_command(host: Host) -> None:
    quiet = group_plan(
        name="db", vips=("10.0.0.201/32",), neutral=True, down_command=host.script("quiet"), shutdown=False
    )
    commands = host.run(host.group(), quiet)
    for held in (True, False):
        if not held:
            commands.stop()
        commands.follow("web", held=held)
        commands.follow("db", held=held)
        host.serve()
    assert host.told() == ["up eth0 10.0.0.200", "down eth0 10.0.0.200"]


# What goes wrong ------------------------------------------------------------------------------------------------------


def test_a_command_that_fails_is_named_and_the_next_one_runs(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    commands = host.run(host.group(up="exit 3", vips=("10.0.0.1/32", "10.0.0.2/32")))
    commands.follow("web", held=True)
    assert host.serve() == ["up eth0 10.0.0.1", "up eth0 10.0.0.2"]
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [error.getMessage() for error in errors] == [
        f"the up command of group web ({host.directory}/up eth0 10.0.0.{n}) ended with exit code 3" for n in (1, 2)
    ]
    assert vars(errors[0])["group"] == "web"


def test_a_command_that_dies_of_a_signal_without_a_name_is_named(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    commands = host.run(host.group(up="kill -35 $$"))
    commands.follow("web", held=True)
    assert host.serve() == ["up eth0 10.0.0.200"]
    assert f"the up command of group web ({host.directory}/up eth0 10.0.0.200) was ended by signal 35" in (
        caplog.messages
    )


def test_a_command_that_is_gone_is_named(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    commands = host.run(host.group())
    (host.directory / "up").unlink()
    commands.follow("web", held=True)
    assert host.serve() == []
    assert f"cannot run {host.directory}/up: No such file or directory" in caplog.messages
    assert f"the up command of group web ({host.directory}/up eth0 10.0.0.200) ended with exit code 126" in (
        caplog.messages
    )


def test_a_command_that_hangs_is_ended_with_all_that_it_started(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    pids = host.directory / "pids"
    commands = host.run(host.group(up=f"sleep 1000 & echo $! $$ > {pids}; wait"))
    commands.follow("web", held=True)
    host.serve(lambda: pids.exists() and pids.read_text().endswith("\n"))
    commands.follow("web", held=False)
    assert commands.next() == host.now + TIME_LIMIT
    commands.tick(host.now + TIME_LIMIT - 0.1)
    assert not commands.running[0].killed
    commands.tick(host.now + TIME_LIMIT)
    assert host.serve() == ["up eth0 10.0.0.200", "down eth0 10.0.0.200"]
    assert (
        f"the up command of group web ({host.directory}/up eth0 10.0.0.200) did not end within 30 s; it is killed"
        in caplog.messages
    )
    assert not [message for message in caplog.messages if "was ended by" in message]
    for pid in pids.read_text().split():
        host.serve(lambda pid=pid: not alive(int(pid)))


def alive(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return b") Z " not in Path(f"/proc/{pid}/stat").read_bytes()
    return False


def test_the_end_of_everything_ends_what_runs(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    commands = host.run(host.group(up="echo half a line | tr -d '\\n'; sleep 1000"))
    commands.follow("web", held=True)
    host.serve(lambda: any(run.buffer for run in commands.running))
    (run,) = commands.running
    commands.kill()
    assert (run.process.wait(), commands.running) == (-9, [])
    commands.follow("web", held=False)
    assert host.serve() == ["up eth0 10.0.0.200"]
    assert f"{run} still runs; it is killed" in caplog.messages
    assert "half a line" in caplog.messages


# What a command says --------------------------------------------------------------------------------------------------


def lines_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if hasattr(record, "command")]


def test_what_it_says_is_logged_line_by_line(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    commands = host.run(host.group(up="echo one; echo two >&2; printf '\\377 three'"))
    commands.follow("web", held=True)
    host.serve()
    assert lines_of(caplog) == ["one", "two", "\\xff three"]
    (record, *_) = [record for record in caplog.records if record.getMessage() == "one"]
    assert (vars(record)["group"], vars(record)["command"], record.levelno) == ("web", "up", logging.INFO)


def test_one_that_says_much_is_cut_short(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    commands = host.run(host.group(up="seq 100000; head -c 300000 /dev/zero"))
    commands.follow("web", held=True)
    host.serve()
    said = lines_of(caplog)
    assert said[:100] == [str(number) for number in range(1, 101)]
    assert said[100:] == [
        f"the up command of group web ({host.directory}/up eth0 10.0.0.200) says more than 100 lines; "
        "the rest is not logged"
    ]


def test_one_long_line_is_cut_into_pieces_and_each_is_short(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    commands = host.run(host.group(up="head -c 300000 /dev/zero | tr '\\0' x"))
    commands.follow("web", held=True)
    host.serve()
    assert {len(line) for line in lines_of(caplog)[:-1]} <= {1000}
    assert all(set(line) == {"x"} for line in lines_of(caplog))


def test_what_it_left_behind_is_not_waited_for(host: Host) -> None:
    pid = host.directory / "pid"
    commands = host.run(host.group(up=f"sleep 1000 & echo $! > {pid}"))
    commands.follow("web", held=True)
    host.serve()
    assert commands.running == []
    assert alive(int(pid.read_text()))
    os.kill(int(pid.read_text()), 9)


# What it runs with ----------------------------------------------------------------------------------------------------


def test_it_has_an_empty_input_its_own_process_group_and_no_descriptor_of_ours(host: Host) -> None:
    secret, writer = os.pipe()
    os.set_inheritable(secret, True)
    found = host.directory / "found"
    commands = host.run(
        host.group(up=f"(readlink /proc/$$/fd/0; cut -d' ' -f1,5 /proc/$$/stat; ls /proc/$$/fd) > {found}")
    )
    commands.follow("web", held=True)
    host.serve()
    os.close(secret)
    os.close(writer)
    stdin, ids, *descriptors = found.read_text().split("\n")[:-1]
    pid, process_group = ids.split()
    assert (stdin, pid) == ("/dev/null", process_group)
    assert set(descriptors) <= {"0", "1", "2", "10", "255"}  # a shell keeps its script open above the first ten
    assert str(secret) not in descriptors or secret == 10


def test_it_hears_every_signal_and_gains_no_rights(host: Host) -> None:
    found = host.directory / "found"
    commands = host.run(host.group(up=f"grep -E '^(SigIgn|SigBlk|NoNewPrivs)' /proc/self/status > {found}"))
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        commands.follow("web", held=True)
    finally:
        signal.signal(signal.SIGHUP, before)
    host.serve()
    status = dict(line.split(":\t") for line in found.read_text().splitlines())
    # Without 32 and 33: libc keeps them for itself and lets nobody change what an ancestor does with them.
    settable = sum(1 << number - 1 for number in signal.valid_signals())
    assert int(status["SigIgn"], 16) & settable == 0
    assert (int(status["SigBlk"], 16) & settable, status["NoNewPrivs"]) == (0, "1")


# Other settings ------------------------------------------------------------------------------------------------------


def test_what_is_to_be_run_still_is_run_as_it_was_wanted(host: Host) -> None:
    commands = host.run(host.group(up="sleep 0.2"))
    commands.follow("web", held=True)
    commands.follow("web", held=False)  # while the up command runs
    commands.change([host.group(vips=("10.0.0.201/24",))], started=["web"], held=[])
    host.serve()
    commands.follow("web", held=True)
    assert host.serve() == ["up eth0 10.0.0.200", "down eth0 10.0.0.200", "up eth0 10.0.0.201"]


def test_the_commands_of_a_group_that_is_gone_are_run_to_their_end_and_then_no_more(host: Host) -> None:
    commands = host.run(host.group(up="sleep 0.2"))
    commands.follow("web", held=True)
    commands.follow("web", held=False)
    commands.change([], started=[], held=[])
    assert host.serve() == ["up eth0 10.0.0.200", "down eth0 10.0.0.200"]
    commands.follow("web", held=True)
    assert commands.idle


def test_a_group_that_begins_runs_its_down_command_and_one_that_goes_on_none(host: Host) -> None:
    commands = host.run()
    commands.change([host.group(neutral=False, name="db"), host.group()], started=["db"], held=["web"])
    assert host.serve() == ["down eth0 10.0.0.200"]
    commands.follow("web", held=True)  # as before
    commands.follow("web", held=False)
    assert host.serve()[1:] == ["down eth0 10.0.0.200"]
