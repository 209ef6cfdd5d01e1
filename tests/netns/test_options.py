"""What ucarp's users know: commands, status and hand-over by signal, links that mean nothing; and maintenance."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sidecar.demo.lan import Lan
from sidecar.demo.node import SidecarNode
from sidecar.demo.probe import arp_prober
from tests.netns.peers import Ucarp, role, status, until

VIP = "10.77.0.100"
PASSWORD = "options"
PATIENT = {"CARP_DEAD_RATIO": "10"}
"""A lease of 10 s, in which a new engine is there on a busy machine, too."""

Start = Callable[..., SidecarNode]


@pytest.fixture
def sidecar(lan: Lan, tmp_path: Path) -> Callable[..., SidecarNode]:
    """Make the sidecar of a node by its number."""
    secret = tmp_path / "password"
    secret.write_text(PASSWORD)

    def make(number: int, **settings: str) -> SidecarNode:
        ours = {"CARP_VHID": "42", "CARP_VIPS": VIP, "CARP_PASSWORD_FILE": str(secret)}
        return SidecarNode(lan.nodes[number], tmp_path, {**ours, **settings})

    return make


@contextlib.contextmanager
def master_and_backup(one: SidecarNode, two: SidecarNode) -> Iterator[tuple[SidecarNode, SidecarNode]]:
    """Start two nodes one after the other, whatever the machine has to do meanwhile."""
    with one:
        until(lambda: role(one) == "master", "the first is master")
        with two:
            until(lambda: role(two) == "backup", "the second is its backup")
            yield one, two


def order(sidecar: SidecarNode, *arguments: str) -> str:
    """Run ``carp-sidecar demote`` or ``promote`` for a node; return what it prints."""
    command = [sys.executable, "-m", "sidecar", *arguments, "--runtime-dir", str(sidecar.runtime_dir)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def heard_by(backup: SidecarNode, adverts: int) -> None:
    """Wait until a backup has heard so many more adverts."""
    before = backup.group().adverts_received
    until(lambda: (s := status(backup)) and s.adverts_received >= before + adverts, f"{adverts} more adverts")


def bound(lan: Lan) -> list[str]:
    return [node.name for node in lan.nodes if f" {VIP}/" in node.run(["ip", "addr", "show", "dev", "eth0"]).stdout]


# Commands ------------------------------------------------------------------------------------------------------------


class Scripts:
    """An up and a down command that tell when they run, with what, and how often the VIP is on the interface then."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._told = directory / "told"
        self._told.write_text("")

    def settings(self, node: str, *, up: str = "", **settings: str) -> dict[str, str]:
        for name, body in (("up", up), ("down", "")):
            script = self._directory / f"{node}-{name}"
            held = '$(ip -o addr show dev $1 | grep -cF " $2/")'
            script.write_text(f'#!/bin/sh\necho "$3: {name} $1 $2 held={held}" >> {self._told}\n{body}\n')
            script.chmod(0o755)
            settings[f"CARP_{name.upper()}_COMMAND"] = str(script)
        return {"CARP_XPARAM": node, **settings}

    def of(self, node: str) -> list[str]:
        """What a node's commands have told, in order."""
        lines = self._told.read_text().splitlines()
        return [line.removeprefix(f"{node}: ") for line in lines if line.startswith(f"{node}: ")]


UP, DOWN = f"up eth0 {VIP} held=1", f"down eth0 {VIP} held=0"


@pytest.fixture
def scripts(tmp_path: Path) -> Scripts:
    return Scripts(tmp_path)


def test_commands_run_in_order_on_start_takeover_and_stop(sidecar: Start, scripts: Scripts) -> None:
    first = sidecar(0, **scripts.settings("one"))
    second = sidecar(1, CARP_ADVSKEW="100", **scripts.settings("two", CARP_NEUTRAL="true"))
    with master_and_backup(first, second) as (one, two):
        until(lambda: scripts.of("one") == [DOWN, UP], "the first runs down at its start, then up")
        heard_by(two, 2)
        assert scripts.of("two") == []
        one.kill_all()
        until(lambda: scripts.of("two") == [UP], "the second runs up when it takes over")
        one.start()
        until(lambda: scripts.of("one") == [DOWN, UP, DOWN], "whoever was killed runs down at its next start")
        until(lambda: role(one) == "backup", "it follows")
        assert two.terminate() == 0
        assert scripts.of("two") == [UP, DOWN]
        until(lambda: scripts.of("one") == [DOWN, UP, DOWN, UP], "the first takes over again")


def test_an_engine_that_is_killed_and_resumes_runs_no_command(sidecar: Start, scripts: Scripts) -> None:
    first, second = sidecar(0, **scripts.settings("one", **PATIENT)), sidecar(1, CARP_ADVSKEW="100", **PATIENT)
    with master_and_backup(first, second) as (one, two):
        until(lambda: scripts.of("one") == [DOWN, UP], "its commands have run")
        os.kill(one.pids()["engine"], signal.SIGKILL)
        until(lambda: (s := status(one)) and s.reason == "resumed", "it resumes")
        heard_by(two, 4)
        assert scripts.of("one") == [DOWN, UP]
        assert two.group().transitions == 1


def test_a_command_that_hangs_disturbs_neither_adverts_nor_lease(lan: Lan, sidecar: Start, scripts: Scripts) -> None:
    hanging = scripts.settings("one", up="exec sleep 1000", CARP_NEUTRAL="true")
    with master_and_backup(sidecar(0, **hanging), sidecar(1, CARP_ADVSKEW="100")) as (one, two):
        until(lambda: scripts.of("one") == [UP], "its up command hangs")
        with arp_prober(lan, VIP) as prober:
            until(lambda: len(prober.answers().received) > 50, "the VIP answers")
            heard_by(two, 6)
        assert prober.answers().answerers(0.0, float("inf")) == {"node-1"}
        assert (one.group().role, one.group().transitions, two.group().transitions) == ("master", 2, 1)


def test_a_command_gets_the_networks_rights_and_nothing_of_ours(sidecar: Start, tmp_path: Path) -> None:
    found = tmp_path / "found"
    script = tmp_path / "up"
    script.write_text(
        f"#!/bin/sh\n(grep ^Cap /proc/self/status; env; ls -l /proc/$$/fd) > {found}.new\nmv {found}.new {found}\n"
    )
    script.chmod(0o755)
    with sidecar(0, CARP_UP_COMMAND=str(script)):
        until(found.exists, "it runs")
    text = found.read_text()
    rights = 1 << 12 | 1 << 13  # NET_ADMIN, NET_RAW
    assert {line.split()[1] for line in text.splitlines() if line.startswith("Cap")} == {f"{rights:016x}"}
    assert "CARP_" not in text
    assert PASSWORD not in text
    assert "socket:" not in text


# Signals -------------------------------------------------------------------------------------------------------------


def test_sigusr1_logs_each_groups_status(sidecar: Start) -> None:
    with sidecar(0, CARP_LOG_LEVEL="error") as one:
        until(lambda: role(one) == "master", "it is master")
        os.kill(one.pid, signal.SIGUSR1)
        until(lambda: f"MASTER on eth0 vhid 42 ({VIP}/32) since " in one.log, "it says so")


def test_sigusr2_hands_over_and_the_vip_stays_there(lan: Lan, sidecar: Start) -> None:
    with master_and_backup(sidecar(0), sidecar(1, CARP_ADVSKEW="100")) as (one, two):
        heard_by(two, 1)
        with arp_prober(lan, VIP) as prober:
            until(lambda: len(prober.answers().received) > 50, "the VIP answers")
            os.kill(one.pid, signal.SIGUSR2)
            until(lambda: role(one) == "backup", "it yields")
            until(lambda: prober.answers().since_when("node-2"), "the other one answers")
        assert (two.group().role, two.group().reason) == ("master", "handed-over")
        assert one.group().reason == "handed-over"
        heard_by(one, 4)  # more than its timer's three
        assert (role(one), bound(lan)) == ("backup", ["node-2"])


def test_sigusr2_hands_over_to_ucarp(lan: Lan, sidecar: Start, tmp_path: Path) -> None:
    with sidecar(0, CARP_REPLAY="compat") as one:
        until(lambda: role(one) == "master", "we are master")
        with Ucarp(lan.nodes[1], tmp_path, vip=VIP, vhid=42, password=PASSWORD, options="-k 100") as ucarp:
            sent = one.group().adverts_sent
            until(lambda: one.group().adverts_sent > sent + 2, "ucarp hears us")
            os.kill(one.pid, signal.SIGUSR2)
            until(lambda: ucarp.is_master, "ucarp takes over")
            until(lambda: role(one) == "backup", "we yield")
            until(lambda: bound(lan) == ["node-2"], "the VIP is ucarp's")
            heard_by(one, 4)
            assert (role(one), one.group().master) == ("backup", lan.nodes[1].address)


def test_the_last_ucarp_gone_our_nodes_change_to_strict_the_master_last(lan: Lan, sidecar: Start) -> None:
    compat = {"CARP_REPLAY": "compat"}
    with master_and_backup(sidecar(0, **compat), sidecar(1, CARP_ADVSKEW="100", **compat)) as (one, two):
        heard_by(two, 1)
        two.terminate()
        two.start(CARP_REPLAY="strict")
        until(lambda: (s := status(two)) and s.held_back, "it hears nobody, but sees that somebody answers")
        assert (role(one), role(two), bound(lan)) == ("master", "backup", ["node-1"])
        one.terminate()
        one.start(CARP_REPLAY="strict")
        until(lambda: "master" in (role(one), role(two)), "one of them takes over")
        until(lambda: {role(one), role(two)} == {"backup", "master"}, "the other one follows")
        until(lambda: all((s := status(each)) and not s.held_back for each in (one, two)), "nobody waits any more")
        assert len(bound(lan)) == 1


# Maintenance ---------------------------------------------------------------------------------------------------------


def test_demote_moves_the_vip_at_once_and_promote_gives_it_back_to_nobody(lan: Lan, sidecar: Start) -> None:
    with master_and_backup(sidecar(0), sidecar(1, CARP_ADVSKEW="100")) as (one, two):  # without preempt
        heard_by(two, 1)
        assert order(one, "demote", "--reason", "new disks").startswith("maintenance begins")
        until(lambda: role(two) == "master", "the other one takes over")
        until(lambda: role(one) == "backup", "it yields")
        assert (two.group().reason, one.group().reason) == ("demoted-master", "better-master")
        assert [(each.name, each.detail) for each in one.group().demotions] == [("maintenance", "new disks")]
        assert "already" in order(one, "demote")
        assert order(one, "promote").startswith("maintenance is over")
        until(lambda: one.group().demotions == (), "it is promoted")
        heard_by(one, 4)
        assert (role(one), role(two), bound(lan)) == ("backup", "master", ["node-2"])
        assert order(one, "promote") == "this node is not in maintenance\n"


def test_a_lone_node_in_maintenance_keeps_the_vip_until_somebody_comes(lan: Lan, sidecar: Start) -> None:
    with sidecar(0, **PATIENT) as one:
        until(lambda: role(one) == "master", "it is master")
        order(one, "demote")
        sent = one.group().adverts_sent
        until(lambda: one.group().adverts_sent > sent + 4, "it goes on")
        assert (one.group().role, one.group().transitions, bound(lan)) == ("master", 2, ["node-1"])
        os.kill(one.pids()["engine"], signal.SIGKILL)
        until(lambda: (s := status(one)) and s.reason == "resumed", "its engine resumes")
        assert one.group().demotion == 240
        with sidecar(1, CARP_ADVSKEW="100", **PATIENT) as two:
            until(lambda: role(two) == "master", "whoever comes takes over")
            until(lambda: role(one) == "backup", "it yields")
            two.kill_all()
            until(lambda: role(one) == "master", "the last node standing is master, demoted or not")


# Links ---------------------------------------------------------------------------------------------------------------


def test_an_ignored_link_changes_nothing(lan: Lan, sidecar: Start) -> None:
    with sidecar(0, CARP_IGNORE_LINK="true") as one:
        until(lambda: role(one) == "master", "it is master")
        lan.link_down(lan.nodes[0])
        until(lambda: one.status().interfaces[0].up is False, "the engine knows")
        sent = one.group().adverts_sent
        until(lambda: one.group().adverts_sent > sent + 3, "it goes on")
        assert (one.group().role, one.group().transitions, bound(lan)) == ("master", 2, ["node-1"])


def test_a_lost_carrier_gives_up_the_groups_on_the_other_interfaces(lan: Lan, sidecar: Start, tmp_path: Path) -> None:
    node = lan.nodes[0]
    for step in ("link add eth1 type veth peer name other", "link set other up", "link set eth1 up"):
        node.run(["ip", *step.split()])
    node.run(["ip", "addr", "add", "10.78.0.1/24", "dev", "eth1"])
    config = tmp_path / "two.yaml"
    config.write_text(
        f"groups:\n- {{name: web, vhid: 42, vips: [{VIP}], interface: eth0}}\n"
        "- {name: inside, vhid: 43, vips: [10.78.0.100], interface: eth1}\n"
    )
    settings = {"CARP_CONFIG_FILE": str(config), "CARP_VHID": "", "CARP_VIPS": "", "CARP_INTERFACE": ""}
    with master_and_backup(sidecar(0, **settings), sidecar(1, CARP_ADVSKEW="100")) as (one, two):
        heard_by(two, 1)
        node.run(["ip", "link", "set", "other", "down"])
        until(lambda: role(two) == "master", "the other node takes over")
        until(lambda: role(one) == "backup", "this one yields on eth0")
        assert two.group().reason == "demoted-master"
        assert [each.name for each in one.group().demotions] == ["link:eth1"]
        node.run(["ip", "link", "set", "other", "up"])
        until(lambda: one.group().demotions == (), "it is given back")
