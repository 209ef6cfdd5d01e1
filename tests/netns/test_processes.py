"""The three processes on a real kernel: their rights, their secrets, their ends."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import ip_interface
from pathlib import Path

import pytest

from sidecar.control import ControlError
from sidecar.demo.lan import Lan, inside
from sidecar.demo.node import SidecarNode
from sidecar.demo.probe import arp_prober
from sidecar.ipc.messages import GroupStatus
from sidecar.net.addresses import Addresses
from tests.netns.peers import PATIENCE, role, until

VIP = "10.77.0.100"
VIP6 = "fd77::100"
SECRET = "s3cr3t-in-no-place"


@pytest.fixture
def settings() -> dict[str, str]:
    # The password by environment, the harder case: it must not reach a child's.
    return {"CARP_VHID": "42", "CARP_VIPS": f"{VIP},{VIP6}", "CARP_PASSWORD": SECRET}


@pytest.fixture
def sidecar(lan: Lan, tmp_path: Path, settings: dict[str, str]) -> Iterator[SidecarNode]:
    with SidecarNode(lan.nodes[0], tmp_path, settings) as sidecar:
        yield sidecar


@pytest.fixture
def backup(lan: Lan, tmp_path: Path, settings: dict[str, str], sidecar: SidecarNode) -> Iterator[SidecarNode]:
    until(lambda: role(sidecar) == "master", "the other one is master, however slow the machine is")
    with SidecarNode(lan.nodes[1], tmp_path, {**settings, "CARP_ADVSKEW": "100"}) as backup:
        yield backup


def addresses(sidecar: SidecarNode) -> str:
    return sidecar.node.run(["ip", "addr", "show", "dev", "eth0"]).stdout


def proc(pid: int, name: str) -> bytes:
    return Path(f"/proc/{pid}/{name}").read_bytes()


def children(pid: int) -> list[int]:
    return [int(child) for child in proc(pid, f"task/{pid}/children").split()]


def pid_inside(pid: int) -> str:
    """Return which process it is in its own PID namespace; of one that has ended meanwhile, nothing."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return re.search(r"^NSpid:.*\s(\d+)$", proc(pid, "status").decode(), re.M)[1]  # type: ignore[index]
    return ""


def test_the_engine_and_the_agent_have_no_capabilities(lan: Lan, tmp_path: Path, settings: dict[str, str]) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text("{}")
    mirror = {
        "CARP_KUBERNETES": "on",
        "KUBECONFIG": str(kubeconfig),
        "POD_NAME": "a",
        "POD_NAMESPACE": "default",
    }
    with SidecarNode(lan.nodes[0], tmp_path, settings | mirror) as sidecar:
        until(lambda: {"engine", "agent"} <= sidecar.pids().keys(), "both children run")
        until(lambda: role(sidecar) == "master", "the sidecar works")
        pids = sidecar.pids()
        for name in ("engine", "agent"):
            status = dict(line.split(":\t", 1) for line in proc(pids[name], "status").decode().splitlines())
            for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
                assert int(status[kind], 16) == 0, (name, kind)
            assert status["NoNewPrivs"] == "1"
        assert (
            dict(line.split(":\t", 1) for line in proc(pids["engine"], "status").decode().splitlines())["Uid"].split()
            == ["65534"] * 4
        )
        # A kubeconfig that says nothing is the agent's problem, told once; the VIP is held all the same.
        until(lambda: "cannot read KUBECONFIG" in sidecar.log, "the agent says what is wrong")


def test_the_secret_is_in_no_environment_argument_log_or_status(sidecar: SidecarNode) -> None:
    until(lambda: role(sidecar) == "master", "it becomes master")
    for name, pid in sidecar.pids().items():
        assert SECRET.encode() not in proc(pid, "environ"), name
        assert SECRET.encode() not in proc(pid, "cmdline"), name
    assert SECRET not in sidecar.log
    assert SECRET not in str(sidecar.status())
    assert b"CARP_" not in proc(sidecar.pids()["engine"], "environ")


def test_the_vip_is_a_lease_and_never_a_source_address(sidecar: SidecarNode) -> None:
    until(lambda: f"inet {VIP}/32" in addresses(sidecar), "the IPv4 VIP is bound")
    until(lambda: f"inet6 {VIP6}/128" in addresses(sidecar), "the IPv6 VIP is bound")
    for line, lifetime in zip(addresses(sidecar).splitlines(), addresses(sidecar).splitlines()[1:], strict=False):
        if VIP in line or VIP6 in line:
            assert "deprecated" in line
            assert re.search("valid_lft [1-3]sec", lifetime)
            assert "preferred_lft 0sec" in lifetime


def test_after_a_sigkill_of_everything_the_kernel_lets_go(sidecar: SidecarNode) -> None:
    until(lambda: VIP in addresses(sidecar), "the VIP is bound")
    sidecar.kill_all()
    until(lambda: VIP not in addresses(sidecar) and VIP6 not in addresses(sidecar), "the lease runs out")


def test_children_end_with_the_parent(sidecar: SidecarNode) -> None:
    until(lambda: role(sidecar) == "master", "it becomes master")
    engine = sidecar.pids()["engine"]
    os.kill(sidecar.pid, signal.SIGKILL)
    until(lambda: not Path(f"/proc/{engine}").exists(), "the engine is gone too")


@pytest.fixture
def patient(lan: Lan, tmp_path: Path, settings: dict[str, str]) -> Iterator[tuple[SidecarNode, SidecarNode]]:
    """A master and its backup with a lease of 10 s, in which a new engine is there on a busy machine, too."""
    settings |= {"CARP_DEAD_RATIO": "10"}
    with SidecarNode(lan.nodes[0], tmp_path, settings) as master:
        until(lambda: role(master) == "master", "it becomes master")
        with SidecarNode(lan.nodes[1], tmp_path, {**settings, "CARP_ADVSKEW": "100"}) as backup:
            until(lambda: role(backup) == "backup", "the other one is its backup")
            yield master, backup


def test_an_engine_that_dies_resumes_without_a_role_change_anywhere(
    lan: Lan, patient: tuple[SidecarNode, SidecarNode]
) -> None:
    sidecar, backup = patient
    with arp_prober(lan, VIP) as prober:
        until(lambda: len(prober.answers().received) > 50, "the VIP answers")
        engine = sidecar.pids()["engine"]
        os.kill(engine, signal.SIGKILL)
        until(lambda: sidecar.pids().get("engine", engine) != engine, "a new engine runs")
        until(lambda: role(sidecar) == "master", "it resumes as master")
        heard = backup.group().adverts_received
        until(lambda: backup.group().adverts_received > heard + 4, "the backup hears it")
    assert sidecar.group().reason == "resumed"
    *earlier, died, resumed = sidecar.group().history
    assert [change.after for change in earlier] == ["backup", "master"]
    assert (died.before, died.after, died.reason) == ("master", "init", "engine-died")
    assert died.detail == "the engine was ended by SIGKILL"
    assert (resumed.before, resumed.after, resumed.reason) == ("init", "master", "resumed")
    assert earlier[-1].at <= died.at <= resumed.at
    assert (backup.group().role, backup.group().transitions) == ("backup", 1)
    assert prober.answers().answerers(0.0, float("inf")) == {"node-1"}


def test_sigterm_ends_with_zero_and_leaves_nothing(sidecar: SidecarNode) -> None:
    until(lambda: VIP in addresses(sidecar), "the VIP is bound")
    assert sidecar.terminate() == 0
    assert VIP not in addresses(sidecar)
    assert VIP6 not in addresses(sidecar)
    assert not (sidecar.runtime_dir / "control.sock").exists()


def lease_for_ten_minutes() -> None:
    with Addresses() as kernel:
        index = next(link.index for link in kernel.links() if link.name == "eth0")
        kernel.put(index=index, vip=ip_interface(f"{VIP}/32"), lifetime=600)


def test_a_leftover_of_an_earlier_life_is_swept_and_nothing_else(sidecar: SidecarNode) -> None:
    node = sidecar.node
    node.run(["ip", "addr", "add", "10.77.0.101/32", "dev", "eth0"])
    inside(node.netns, lease_for_ten_minutes)
    sidecar.kill_all()
    sidecar.start()
    until(lambda: f"removed {VIP}/32, which an earlier run left behind" in sidecar.log, "the leftover is reported")
    assert "10.77.0.101/32" in addresses(sidecar)


def test_a_second_sidecar_in_the_same_directory_takes_nothing_from_the_first(
    lan: Lan, sidecar: SidecarNode, settings: dict[str, str], tmp_path: Path
) -> None:
    until(lambda: role(sidecar) == "master", "the first one is master")
    with arp_prober(lan, VIP) as prober:
        until(lambda: len(prober.answers().received) > 50, "the VIP answers")
        second = SidecarNode(lan.nodes[0], tmp_path, settings)
        second.start()
        assert second.wait() == 1
        assert "another carp-sidecar runs" in second.log
    assert prober.answers().outages() == ()
    assert role(sidecar) == "master"


def test_a_parent_that_hangs_ends_the_mastership(sidecar: SidecarNode, backup: SidecarNode) -> None:
    until(lambda: role(sidecar) == "master" and role(backup) == "backup", "one master, one backup")
    os.kill(sidecar.pid, signal.SIGSTOP)
    try:
        until(lambda: role(backup) == "master", "the other one takes over")
        assert backup.group().reason == "bow-out"
        until(lambda: VIP not in addresses(sidecar), "what is silent already is taken off too")
    finally:
        os.kill(sidecar.pid, signal.SIGCONT)
    until(lambda: role(sidecar) == "backup", "it follows the new master")
    assert "no renewal of the lease was confirmed for 2 s" in sidecar.log


def test_an_interface_that_is_replaced_is_gone_over_to_and_groups_on_others_notice_nothing(
    lan: Lan, tmp_path: Path, settings: dict[str, str]
) -> None:
    node = lan.nodes[0]
    for step in ("link add side0 type veth peer name side1", "addr add 10.88.0.1/24 dev side0", "link set side1 up"):
        node.run(["ip", *step.split()])
    node.run(["ip", "link", "set", "side0", "up"])
    config = tmp_path / "config.yaml"
    config.write_text(
        f"groups:\n- {{name: web, vhid: 42, vips: ['{VIP}', '{VIP6}'], interface: eth0}}\n"
        "- {name: db, vhid: 43, vips: [10.88.0.100], interface: side0}\n"
    )
    both = {"CARP_PASSWORD": SECRET, "CARP_CONFIG_FILE": str(config), "CARP_INTERFACE": ""}

    def groups() -> dict[str, GroupStatus]:
        with contextlib.suppress(ControlError):
            return {group.name: group for group in sidecar.status().groups}
        return {}

    def roles() -> list[str]:
        return [group.role for group in groups().values()]

    with contextlib.ExitStack() as stack:
        sidecar = stack.enter_context(SidecarNode(node, tmp_path, both))
        until(lambda: roles() == ["master"] * 2, "it is master of both")
        peer = stack.enter_context(SidecarNode(lan.nodes[1], tmp_path, settings | {"CARP_ADVSKEW": "100"}))
        until(lambda: role(peer) == "backup", "the peer is its backup")
        before = groups()["db"], sidecar.pids()
        lan.remove_interface(node)
        until(lambda: role(peer) == "master", "the peer takes over")
        lan.make_interface(node)
        until(lambda: groups().get("web") and groups()["web"].master == lan.nodes[1].address, "it hears the peer")
        assert roles() == ["backup", "master"]
        peer.kill_all()
        until(lambda: roles() == ["master"] * 2, "it takes over again")
        until(lambda: VIP in addresses(sidecar) and VIP6 in addresses(sidecar), "it binds on the new interface")
        with arp_prober(lan, VIP) as prober:
            until(lambda: prober.answers().received, "it answers there")
        after = groups()["db"]
        assert (after.transitions, after.since, sidecar.pids()) == (before[0].transitions, before[0].since, before[1])
    assert "interface eth0 was replaced" in sidecar.log


def test_a_child_that_dies_at_once_is_started_again(sidecar: SidecarNode) -> None:
    until(lambda: role(sidecar) is not None, "it runs")
    killed = 0
    while killed < 3:
        pids = sidecar.pids()
        if "engine" in pids or "starting" in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pids.get("engine", pids.get("starting", 0)), signal.SIGKILL)
                killed += 1
            until(lambda gone=pids: sidecar.pids() != gone, "that one is gone")
    until(lambda: role(sidecar) == "master", "it works again")
    assert "Traceback" not in sidecar.log


def test_an_engine_that_keeps_dying_lets_the_lease_run_out(sidecar: SidecarNode, backup: SidecarNode) -> None:
    until(lambda: role(backup) == "backup", "there is a backup")
    killed: set[int] = set()

    def kill_again() -> bool:
        pids = sidecar.pids()
        pid = pids.get("engine", pids.get("starting"))
        if pid is not None and pid not in killed:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
        return role(backup) == "master"

    until(kill_again, "the other one takes over")
    assert backup.group().reason == "master-down"
    until(lambda: "the lease of group default has ended" in sidecar.log, "it says so")
    until(lambda: VIP not in addresses(sidecar), "the VIP is off")


def test_sighup_has_the_settings_read_anew_and_moves_nothing(sidecar: SidecarNode) -> None:
    until(lambda: VIP in addresses(sidecar), "the VIP is bound")
    os.kill(sidecar.pid, signal.SIGHUP)
    until(lambda: "the settings are what is in force already" in sidecar.log, "it says what came of it")
    assert VIP in addresses(sidecar)


@pytest.mark.parametrize("lost", ["net_raw", "net_admin"])
def test_a_missing_capability_is_exit_code_3_and_one_line(lan: Lan, settings: dict[str, str], lost: str) -> None:
    command = ["setpriv", f"--bounding-set=-{lost}", f"--inh-caps=-{lost}", sys.executable, "-m", "sidecar", "run"]
    ended = subprocess.run(
        lan.nodes[0].command(command),
        env={"PATH": os.environ["PATH"], "CARP_LOG_FORMAT": "text", **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 3
    assert len(ended.stderr.splitlines()) == 1
    assert f"missing capability {lost.upper()}" in ended.stderr


def test_as_pid_1_it_reaps_orphans_and_stops_on_sigterm(lan: Lan, tmp_path: Path, settings: dict[str, str]) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "CARP_RUNTIME_DIR": str(tmp_path / "run"),
        "CARP_LOG_FORMAT": "text",
        **settings,
    }
    command = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable, "-m", "sidecar", "run"]
    log = tmp_path / "log"
    with log.open("wb") as file:
        process = lan.nodes[0].popen(command, env=environment, stdout=file, stderr=file)
    try:
        until(lambda: "backup -> master" in log.read_text(), "it works as PID 1")
        (inside,) = children(process.pid)
        # An orphan of a stranger, as a preStop hook or a debugger leaves one.
        leave = ["nsenter", f"--target={inside}", "--pid", "--mount", "sh", "-c", "sleep 3600 >/dev/null & echo $!"]
        left = subprocess.run(leave, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
        (orphan,) = (pid for pid in children(inside) if pid_inside(pid) == left)
        os.kill(orphan, signal.SIGKILL)
        until(lambda: orphan not in children(inside), "it is reaped")  # a zombie would be a child still
        os.kill(inside, signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.wait()
