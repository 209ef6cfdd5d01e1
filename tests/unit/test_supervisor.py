"""The parent as a process of its own, on a network of its own: its exit codes, its children, its VIPs."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import msgspec
import pytest

from sidecar.control import ControlError, ask_maintenance, ask_status
from sidecar.ipc.messages import GroupStatus, NodeSays
from sidecar.ipc.plan import Plan, ProbeKind, ProbePlan, encode_plan
from sidecar.net.cutoff import Cutoff
from sidecar.node_word import NodeWord
from tests.fakes.namespace import cable, in_new_network, ip
from tests.fakes.plans import group_plan, node_plan
from tests.netns.peers import until

pytestmark = [pytest.mark.netns, pytest.mark.usefixtures("real_kernel")]

# Adverts every 31 ms, master after 0.9 s: not so fast that a busy machine breaks it.
WEB = group_plan(interface="near", source="10.0.0.1", vips=("10.0.0.200/32",), advbase=0, advskew=8, dead_ratio=30)


@dataclass
class Parent:
    process: subprocess.Popen[str]
    directory: Path
    log: Path

    def group(self) -> GroupStatus | None:
        with contextlib.suppress(ControlError):
            return ask_status(self.directory).groups[0]
        return None

    def is_master(self) -> bool:
        group = self.group()
        return group is not None and group.role == "master"

    def child(self, name: str) -> int | None:
        """Return the pid of the engine or the agent."""
        for pid in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split():
            with contextlib.suppress(OSError):
                if f"sidecar\0{name}".encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                    return int(pid)
        return None

    def kill_child(self, name: str) -> None:
        """Kill a child and wait until another one is there."""
        old = self.child(name)
        assert old is not None
        os.kill(old, signal.SIGKILL)
        until(lambda: self.child(name) not in (None, old), f"the {name} is started again")

    def says(self, words: str) -> bool:
        return words in self.log.read_text()


def start(plan: Plan, directory: Path, *, stderr: int | None = None) -> Parent:
    """Start the parent in the network of the calling thread; its log is in a file, unless it gets a descriptor."""
    fd = os.memfd_create("plan")
    os.write(fd, encode_plan(plan))
    os.lseek(fd, 0, os.SEEK_SET)
    log = directory / "log"
    with log.open("w") as file:
        command = [sys.executable, "-P", "-m", "sidecar", "parent", str(fd)]
        process = subprocess.Popen(command, pass_fds=[fd], stderr=file if stderr is None else stderr, text=True)
    os.close(fd)
    return Parent(process, Path(plan.runtime_dir), log)


@contextlib.contextmanager
def running(plan: Plan, directory: Path) -> Iterator[Parent]:
    """A parent on one end of a cable whose near end has 10.0.0.1/24; enter it with ``alone``."""
    cable()
    ip("address add 10.0.0.1/24 dev near")
    parent = start(plan, directory)
    try:
        yield parent
    finally:
        parent.process.kill()
        parent.process.wait()


def alone(plan: Plan, directory: Path, scene: Callable[[Parent], None]) -> None:
    def play() -> None:
        with running(plan, directory) as parent:
            scene(parent)

    in_new_network(play)


def plan_in(directory: Path, *, kubernetes: bool = False) -> Plan:
    plan = node_plan(WEB, runtime_dir=str(directory / "run"), kubernetes=kubernetes)
    return msgspec.structs.replace(plan, log_format="text")


def patient(plan: Plan) -> Plan:
    """Return the plan with a lease of 3 s, in which a new engine is there on a busy machine, too."""
    groups = tuple(msgspec.structs.replace(group, dead_ratio=96) for group in plan.groups)
    return msgspec.structs.replace(plan, groups=groups)


def test_it_holds_the_vip_as_master_and_takes_it_off_when_told_to_stop(tmp_path: Path) -> None:
    def scene(parent: Parent) -> None:
        until(parent.is_master, "it becomes master")
        assert re.search(r"inet 10\.0\.0\.200/32 .*\n.*valid_lft 1sec preferred_lft 0sec", ip("address show dev near"))
        parent.process.terminate()
        assert parent.process.wait(30) == 0
        assert "10.0.0.200" not in ip("address show dev near")
        assert "10.0.0.1/24" in ip("address show dev near")

    alone(plan_in(tmp_path), tmp_path, scene)
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.parametrize(("interface", "fault"), [("none0", "is not there"), ("lo", "is not an Ethernet interface")])
def test_an_interface_that_cannot_be_used_is_exit_code_2_and_one_line(
    tmp_path: Path, interface: str, fault: str
) -> None:
    plan = plan_in(tmp_path)
    wrong = msgspec.structs.replace(plan, groups=(msgspec.structs.replace(WEB, interface=interface),))

    def scene(parent: Parent) -> None:
        assert parent.process.wait(30) == 2

    alone(wrong, tmp_path, scene)
    (line,) = (tmp_path / "log").read_text().splitlines()
    assert line.endswith(f"parent: CARP_INTERFACE: {interface} {fault}; there are: far, near")


@pytest.mark.parametrize(("setting", "policy"), [("auto", os.SCHED_RR), ("off", os.SCHED_OTHER)])
def test_parent_and_engine_go_before_what_else_is_busy_and_the_agent_does_not(
    tmp_path: Path, setting: str, policy: int
) -> None:
    def scene(parent: Parent) -> None:
        until(parent.is_master, "it becomes master")
        parent.kill_child("engine")
        until(parent.is_master, "it is master again, by another engine")
        pids = [parent.process.pid, *(parent.child(name) for name in ("engine", "agent"))]
        policies = [os.sched_getscheduler(pid or 0) & ~os.SCHED_RESET_ON_FORK for pid in pids]
        assert policies == [policy, policy, os.SCHED_OTHER]
        assert parent.says("real-time scheduling: on") == (setting == "auto")

    plan = msgspec.structs.replace(plan_in(tmp_path, kubernetes=True), realtime=setting)
    alone(patient(plan), tmp_path, scene)


def test_a_dead_agent_is_started_again_and_moves_nothing(tmp_path: Path) -> None:
    def scene(parent: Parent) -> None:
        until(parent.is_master, "it becomes master")
        before = parent.group()
        parent.kill_child("agent")
        after = parent.group()
        assert before is not None
        assert after is not None
        assert (after.transitions, after.since) == (before.transitions, before.since)
        assert parent.says("the agent was ended by SIGKILL; it starts again in 0 s")

    alone(patient(plan_in(tmp_path, kubernetes=True)), tmp_path, scene)


def test_a_dead_engine_is_started_again_and_resumes(tmp_path: Path) -> None:
    def scene(parent: Parent) -> None:
        until(parent.is_master, "it becomes master")
        parent.kill_child("engine")
        until(parent.is_master, "it is master again")
        group = parent.group()
        assert group is not None
        assert group.reason == "resumed"
        assert "10.0.0.200" in ip("address show dev near")

    alone(patient(plan_in(tmp_path)), tmp_path, scene)


def test_so_do_all_groups_that_an_interface_can_have(tmp_path: Path) -> None:
    groups = tuple(
        group_plan(
            name=f"group-{vhid}",
            interface="near",
            source="10.0.0.1",
            vhid=vhid,
            vips=(f"10.0.1.{vhid}/32",),
            dead_ratio=5,
        )
        for vhid in range(1, 256)
    )

    def all_are(parent: Parent, reason: str) -> bool:
        with contextlib.suppress(ControlError):
            told = ask_status(parent.directory).groups
            return [(group.vhid, group.role, group.reason) for group in told] == [
                (vhid, "master", reason) for vhid in range(1, 256)
            ]
        return False

    def scene(parent: Parent) -> None:
        until(lambda: all_are(parent, "master-down"), "it becomes master of all")
        assert 0 < len(sockets(parent.child("engine"))) < 20, "they share them"
        parent.kill_child("engine")
        until(lambda: all_are(parent, "resumed"), "it is master of all again")

    alone(msgspec.structs.replace(plan_in(tmp_path), groups=groups), tmp_path, scene)


def sockets(pid: int | None) -> list[str]:
    """The sockets that a process has open."""
    opened = (str(file.readlink()) for file in Path(f"/proc/{pid}/fd").iterdir())
    return [name for name in opened if name.startswith("socket:")]


def test_an_agent_that_hangs_uses_up_no_lease_that_is_kept(tmp_path: Path) -> None:
    """As where the API server does not answer: the agent would have longer to write than the lease lasts."""
    kept = msgspec.structs.replace(WEB, advbase=1, advskew=0, dead_ratio=4, on_exit="keep")
    plan = msgspec.structs.replace(plan_in(tmp_path, kubernetes=True), groups=(kept,))

    def scene(parent: Parent) -> None:
        until(parent.is_master, "it becomes master")
        agent = parent.child("agent")
        assert agent is not None
        os.kill(agent, signal.SIGSTOP)
        parent.process.terminate()
        assert parent.process.wait(30) == 0
        vip = ip_address("10.0.0.200")
        with Cutoff("near-42") as cutoff:
            assert cutoff.remaining([vip]).get(vip, 0) > 0, "a start would still find it"
        assert "10.0.0.200" in ip("address show dev near")

    alone(plan, tmp_path, scene)


def test_the_engine_hears_of_the_link(tmp_path: Path) -> None:
    def scene(parent: Parent) -> None:
        until(parent.is_master, "it becomes master")
        ip("link set far down")
        until(lambda: (group := parent.group()) and group.role == "init", "it hears that the carrier is gone")
        until(lambda: "10.0.0.200" not in ip("address show dev near"), "the VIP is taken off")
        ip("link set far up")
        until(parent.is_master, "it is master again")

    alone(plan_in(tmp_path), tmp_path, scene)


def test_a_vip_that_somebody_deletes_is_back_at_once_and_reported(tmp_path: Path) -> None:
    plan = msgspec.structs.replace(plan_in(tmp_path), groups=(msgspec.structs.replace(WEB, advbase=1, dead_ratio=3),))

    def scene(parent: Parent) -> None:
        until(parent.is_master, "it becomes master")
        for number in range(1, 9):
            ip("address del 10.0.0.200/32 dev near")
            until(lambda: "10.0.0.200" in ip("address show dev near"), "it is put back")
            until(lambda n=number: (group := parent.group()) and group.disturbances == n, "it is counted")  # type: ignore[misc]
        group = parent.group()
        assert group is not None
        assert (group.transitions, group.disturbance) == (2, "somebody deleted 10.0.0.200/32 on near")
        log = parent.log.read_text()
        assert log.count("somebody deleted 10.0.0.200/32 on near; it is put back and announced again") == 5
        assert log.count("something on this node manages the addresses of near") == 1
        parent.process.terminate()
        assert parent.process.wait(30) == 0
        assert parent.log.read_text().count("somebody") == 6

    alone(plan, tmp_path, scene)


def test_a_runtime_directory_that_cannot_be_used_costs_only_the_status(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")

    def scene(parent: Parent) -> None:
        until(lambda: "10.0.0.200" in ip("address show dev near"), "it holds the VIP")
        assert parent.says("`carp-sidecar status` will not work")
        parent.process.terminate()
        assert parent.process.wait(30) == 0

    alone(plan_in(tmp_path), tmp_path, scene)


def test_sigusr1_tells_the_status_whatever_the_log_level(tmp_path: Path) -> None:
    def scene(parent: Parent) -> None:
        until(parent.is_master, "it becomes master")
        assert not parent.says("MASTER on near")
        parent.process.send_signal(signal.SIGUSR1)
        until(lambda: parent.says("MASTER on near vhid 42 (10.0.0.200/32) since "), "it is told")

    alone(msgspec.structs.replace(plan_in(tmp_path), log_level="error"), tmp_path, scene)
    assert " info " in (tmp_path / "log").read_text()


def test_sigusr2_to_a_lone_node_changes_nothing(tmp_path: Path) -> None:
    def scene(parent: Parent) -> None:
        until(parent.is_master, "it becomes master")
        before = parent.group()
        parent.process.send_signal(signal.SIGUSR2)
        until(lambda: parent.says("asked to hand over"), "it is told")
        sent = parent.group()
        assert sent is not None
        until(lambda: (now := parent.group()) and now.adverts_sent > sent.adverts_sent + 20, "it goes on")
        after = parent.group()
        assert before is not None
        assert after is not None
        assert (after.role, after.transitions) == ("master", before.transitions)
        assert "10.0.0.200" in ip("address show dev near")

    alone(patient(plan_in(tmp_path)), tmp_path, scene)


def demotions(parent: Parent) -> list[str]:
    group = parent.group()
    return [] if group is None else [f"{each.name} {each.weight} {each.detail}" for each in group.demotions]


def test_a_failing_probe_demotes_over_the_deaths_of_agent_and_engine_until_it_is_well(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    probe = ProbePlan(name="app", kind=ProbeKind.FILE, target=(str(ready),), interval=0.2, rise=3, fall=2, weight=50)
    plan = msgspec.structs.replace(plan_in(tmp_path), health=(probe,))
    wrong = [f"health:app 50 {ready} is not there: no such file or directory, 2 times in a row"]
    ready.touch()

    def scene(parent: Parent) -> None:
        until(parent.is_master, "it becomes master")
        assert demotions(parent) == []
        ready.unlink()
        until(lambda: demotions(parent) == wrong, "it is demoted")
        before = parent.group()
        assert before is not None
        parent.kill_child("agent")
        parent.kill_child("engine")
        until(lambda: demotions(parent) == wrong, "the next engine knows")
        until(parent.is_master, "it is master all the same: nobody else is there")
        agent = parent.child("agent")
        assert agent is not None
        os.kill(agent, signal.SIGSTOP)  # it hangs, and what it said stands
        ready.touch()
        parent.kill_child("engine")
        until(lambda: demotions(parent) == wrong, "the engine after that knows, too")
        os.kill(agent, signal.SIGCONT)
        until(lambda: parent.group() and demotions(parent) == [], "it is well again")

    alone(plan, tmp_path, scene)


def test_maintenance_survives_the_engine_and_the_parent(tmp_path: Path) -> None:
    def scene(parent: Parent) -> None:
        until(parent.is_master, "it becomes master")
        assert ask_maintenance(parent.directory, reason="new disks").startswith("maintenance begins")
        until(lambda: demotions(parent) == ["maintenance 240 new disks"], "the engine knows")
        assert parent.is_master()  # nobody else is there
        parent.kill_child("engine")
        until(lambda: demotions(parent) == ["maintenance 240 new disks"], "the next engine knows")
        parent.process.kill()
        parent.process.wait()
        another = start(plan_in(tmp_path), tmp_path)
        try:
            until(lambda: demotions(another) == ["maintenance 240 new disks"], "the next parent knows")
            assert ask_maintenance(another.directory, reason=None).startswith("maintenance is over")
            until(lambda: another.group() and demotions(another) == [], "it is over")
            assert not (another.directory / "maintenance").exists()
        finally:
            another.process.kill()
            another.process.wait()

    alone(plan_in(tmp_path), tmp_path, scene)


def test_what_the_node_said_last_stands_over_a_restart_without_an_api_server(tmp_path: Path) -> None:
    plan = plan_in(tmp_path, kubernetes=True)
    assert plan.kubernetes is not None
    obeying = msgspec.structs.replace(plan.kubernetes, node_annotations=True, cordon=True)
    plan = msgspec.structs.replace(plan, kubernetes=obeying)
    word = NodeWord(tmp_path / "run")
    (tmp_path / "run").mkdir(mode=0o700)
    word.heard(NodeSays(maintenance="new disks", advskew=9, cordoned=True))

    def scene(parent: Parent) -> None:
        wanted = [
            "cordon 240 the node is cordoned",
            "node-maintenance 240 annotation carp-sidecar/maintenance: new disks",
        ]
        until(parent.is_master, "it becomes master")  # nobody else is there
        assert demotions(parent) == wanted
        parent.kill_child("engine")
        until(lambda: demotions(parent) == wanted, "the next engine knows")
        group = parent.group()
        assert group is not None
        assert group.advskew == 9

    alone(plan, tmp_path, scene)


def with_commands(directory: Path, up: str = "", **changes: object) -> Plan:
    """Return a plan whose commands tell what they were called with, and whether the VIP is there."""
    said = directory / "said"
    held = "$(ip address show dev $1 | grep -c $2)"
    for name, body in (("up", up), ("down", "")):
        (directory / name).write_text(f'#!/bin/sh\necho "{name} $* {held}" >> {said}\n{body}\n')
        (directory / name).chmod(0o755)
    group = msgspec.structs.replace(
        WEB,
        up_command=(str(directory / "up"),),
        down_command=(str(directory / "down"),),
        xparam="x",
        **changes,
    )
    return msgspec.structs.replace(plan_in(directory), groups=(group,))


def said(directory: Path) -> list[str]:
    path = directory / "said"
    return path.read_text().splitlines() if path.exists() else []


UP, DOWN = "up near 10.0.0.200 x 1", "down near 10.0.0.200 x 0"


def test_commands_follow_the_lease_and_not_the_engine(tmp_path: Path) -> None:
    def scene(parent: Parent) -> None:
        until(lambda: said(tmp_path) == [DOWN, UP], "the down command at the start, then the up command")
        parent.kill_child("engine")
        until(parent.is_master, "it resumes")
        ip("link set far down")
        until(lambda: said(tmp_path) == [DOWN, UP, DOWN], "the VIP is given up")
        ip("link set far up")
        until(lambda: said(tmp_path) == [DOWN, UP, DOWN, UP], "it is back")
        parent.process.terminate()
        assert parent.process.wait(30) == 0

    alone(patient(with_commands(tmp_path)), tmp_path, scene)
    assert said(tmp_path) == [DOWN, UP, DOWN, UP, DOWN]


def test_without_shutdown_a_stop_runs_no_down_command(tmp_path: Path) -> None:
    def scene(parent: Parent) -> None:
        until(lambda: said(tmp_path) == [UP], "the up command")
        parent.process.terminate()
        assert parent.process.wait(30) == 0

    alone(with_commands(tmp_path, neutral=True, shutdown=False), tmp_path, scene)
    assert said(tmp_path) == [UP]


def test_a_command_that_hangs_ends_with_the_parent(tmp_path: Path) -> None:
    pid = tmp_path / "pid"

    def gone() -> bool:
        try:
            return b") Z " in Path(f"/proc/{pid.read_text().strip()}/stat").read_bytes()
        except FileNotFoundError:
            return True

    def scene(parent: Parent) -> None:
        until(lambda: pid.exists() and pid.read_text().endswith("\n"), "the up command hangs")
        parent.process.kill()
        parent.process.wait()
        until(gone, "it is gone")

    plan = with_commands(tmp_path, up=f"echo $$ > {pid}; exec sleep 1000", neutral=True)
    alone(plan, tmp_path, scene)


def test_the_listener_tells_of_the_engine_and_of_its_absence(tmp_path: Path) -> None:
    plan = msgspec.structs.replace(plan_in(tmp_path), http_listen="127.0.0.1:9112")

    def get(path: str) -> tuple[int, str]:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", 9112), 10) as sock:
            sock.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
            with sock.makefile("r", newline="") as file:
                head, _, body = file.read().partition("\r\n\r\n")
            return int(head.split()[1]), body
        return 0, ""

    def scene(parent: Parent) -> None:
        ip("link set lo up")
        until(parent.is_master, "it becomes master")
        until(lambda: get("/readyz") == (200, "ok\n"), "it is ready")
        document = json.loads(get("/status")[1])
        assert (document["groups"][0]["role"], document["mirror"]) == ("master", None)
        assert 'carp_role{group="web",vhid="42",role="master"} 1\n' in get("/metrics")[1]
        engine = parent.child("engine")
        assert engine is not None
        os.kill(engine, signal.SIGSTOP)
        until(lambda: get("/healthz")[1].startswith("the engine has not turned its loop for "), "it is unhealthy")
        assert "carp_engine_up 0\n" in get("/metrics")[1]
        os.kill(engine, signal.SIGCONT)
        until(lambda: get("/healthz") == (200, "ok\n"), "it is healthy again")
        parent.kill_child("engine")
        until(lambda: get("/healthz") == (200, "ok\n"), "so is the next engine")
        parent.kill_child("agent")
        until(lambda: get("/healthz") == (200, "ok\n"), "the next agent listens too")
        until(parent.is_master, "it is master")

    alone(plan, tmp_path, scene)


def test_a_log_that_nobody_reads_keeps_no_process_from_its_work(tmp_path: Path) -> None:
    def scene(first: Parent) -> None:
        first.process.kill()
        first.process.wait()
        reader, writer = os.pipe()
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
        parent = start(msgspec.structs.replace(plan_in(tmp_path), log_level="debug"), tmp_path, stderr=writer)
        try:
            until(parent.is_master, "it becomes master")
            for number in range(100):  # a line of some 90 bytes for each
                assert ask_maintenance(parent.directory, reason=f"reason {number} " + "x" * 100)
            before = parent.group()
            assert before is not None
            until(lambda: (now := parent.group()) and now.adverts_sent > before.adverts_sent + 20, "it goes on")
            assert parent.is_master()
            parent.process.terminate()
            assert parent.process.wait(30) == 0
        finally:
            parent.process.kill()
            parent.process.wait()
            os.close(reader)
            os.close(writer)

    alone(plan_in(tmp_path), tmp_path, scene)
