"""The command `sniff` on a LAN of real ucarps, our own sidecars and a real keepalived."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.demo.lan import Lan, Node
from sidecar.demo.node import SidecarNode
from tests.netns.peers import PATIENCE, Keepalived, Ucarp, role, until

VIP, VHID, PASSWORD = "10.77.0.100", 42, "interoperable"
SNIFF = [sys.executable, "-P", "-m", "sidecar", "sniff"]


class Sniffing:
    """The command on a node; its lines as they come."""

    def __init__(self, node: Node, directory: Path, *options: str, **settings: str) -> None:
        self._out, self._err = directory / "sniff.out", directory / "sniff.err"
        environment = {"PATH": os.environ["PATH"], "CARP_CONFIG_FILE": "", **settings}
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = node.popen([*SNIFF, *options], stdout=out, stderr=err, env=environment)
        until(lambda: "listening" in self.said, "sniff listens")

    @property
    def said(self) -> str:
        return self._err.read_text()

    @property
    def lines(self) -> list[str]:
        """What it has printed, without the time."""
        return [line.partition("  ")[2] for line in self._out.read_text().splitlines()]

    @property
    def packets(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self._out.read_text().splitlines()]

    def until(self, line: str) -> None:
        until(lambda: line in self.lines, f"{line!r} among {self.lines}")

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


@contextlib.contextmanager
def sniffing(node: Node, directory: Path, *options: str, **settings: str) -> Iterator[Sniffing]:
    command = Sniffing(node, directory, *options, **settings)
    try:
        yield command
    finally:
        command.process.kill()
        command.process.wait(PATIENCE)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "our-password"
    path.write_text(PASSWORD + "\n")
    return path


def group(secret: Path, **settings: str) -> dict[str, str]:
    return {"CARP_VHID": str(VHID), "CARP_VIPS": VIP, "CARP_PASSWORD_FILE": str(secret), **settings}


def test_a_takeover_a_goodbye_and_a_silence_between_ucarp_and_us(lan: Lan, tmp_path: Path, secret: Path) -> None:
    first, second = lan.nodes[0].address, lan.nodes[1].address
    ucarp = Ucarp(lan.nodes[0], tmp_path, vip=VIP, vhid=VHID, password=PASSWORD, options="-k 50")
    ours = SidecarNode(lan.nodes[1], tmp_path, group(secret, CARP_PREEMPT="true", CARP_REPLAY="compat"))
    with sniffing(lan.client, tmp_path, f"--vips={VIP}", f"--password-file={secret}") as sniff:
        with ucarp:
            sniff.until(f"eth0  vhid 42: {first} is master: advbase 1 advskew 50 demotion 0, authentic")
            with ours:
                sniff.until(
                    f"eth0  vhid 42: {second} is master after {first}: advbase 1 advskew 0 demotion 0, authentic"
                )
                assert ours.terminate() == 0
            sniff.until(f"eth0  vhid 42: {second} says goodbye")
            sniff.until(f"eth0  vhid 42: {first} is master after {second}: advbase 1 advskew 50 demotion 0, authentic")
        until(lambda: f"{first} is silent" in sniff.lines[-1], "the silence is told")
        assert len(sniff.lines) < 8  # of some twenty adverts
        assert sniff.end(signal.SIGINT) == 0
        assert sniff.said.count("\n") == 1


def test_the_own_node_is_heard_and_its_settings_verify(lan: Lan, tmp_path: Path, secret: Path) -> None:
    """Beside a sidecar, as `kubectl exec` starts it; a stranger's group and one with another password are there too."""
    settings = group(secret, CARP_INTERFACE="eth0")
    node = lan.nodes[0]
    wrong = Ucarp(lan.nodes[1], tmp_path, vip=VIP, vhid=VHID, password="other", options="-k 9")
    strange = Ucarp(lan.nodes[2], tmp_path, vip="10.77.0.101", vhid=7, password="strange")
    with SidecarNode(node, tmp_path, settings) as ours:
        until(lambda: role(ours) == "master", "we are master")  # first: beside an answering stranger it would wait
        with wrong, strange, sniffing(node, tmp_path, **settings) as sniff:
            assert "the settings' groups are verified: vhid 42 on eth0" in sniff.said
            sniff.until(f"eth0  vhid 42: {node.address} is master: advbase 1 advskew 0 demotion 0, authentic")
            sniff.until(
                f"eth0  vhid 42 (NOT authentic): {lan.nodes[1].address} is master: advbase 1 advskew 9 demotion 0, "
                "the password or the list of VIPs differs"
            )
            sniff.until(
                f"eth0  vhid 7: {lan.nodes[2].address} is master: advbase 1 advskew 0 demotion 0, "
                "authenticity not checked"
            )
            assert sniff.end(signal.SIGTERM) == 0


def test_two_masters_that_do_not_hear_each_other(lan: Lan, tmp_path: Path) -> None:
    """Both are heard where the switch is: each has the other's multicast taken away."""
    masters = [
        Ucarp(node, tmp_path, vip=VIP, vhid=VHID, password=PASSWORD, options=f"-k 0 --mcast=224.0.0.{18 + number}")
        for number, node in enumerate(lan.nodes[:2])
    ]
    with sniffing(lan.client, tmp_path) as sniff, masters[0], masters[1]:
        sniff.until(f"eth0  vhid 42: 2 MASTERS at once: {lan.nodes[0].address}, {lan.nodes[1].address}")
        masters[0].kill()
        until(lambda: f"still advertising: {lan.nodes[1].address}" in sniff.lines[-1], "who is left is told")


@pytest.mark.parametrize("version", [2, 3])
def test_keepalived_is_named_and_json_has_all_of_it(lan: Lan, tmp_path: Path, version: int) -> None:
    vips = [f"10.77.0.{number}" for number in range(101, 106)]
    keepalived = Keepalived(lan.nodes[0], tmp_path, version=version, vrid=51, vips=vips)
    with sniffing(lan.client, tmp_path, "--json") as as_json, keepalived:
        until(lambda: len(as_json.packets) >= 2, "its adverts are heard")
        packet = as_json.packets[0]
        assert (packet["protocol"], packet["vhid"], packet["interface"]) == (f"VRRPv{version}", 51, "eth0")
        assert as_json.end(signal.SIGTERM) == 0
        with sniffing(lan.client, tmp_path) as sniff:
            sniff.until(f"eth0  VRRPv{version} router 51: {lan.nodes[0].address} is master; not CARP, left alone")


def test_a_reader_that_leaves_ends_it_quietly(lan: Lan) -> None:
    sniff = lan.client.popen(SNIFF, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert b"listening" in sniff.stderr.readline()
    sniff.stdout.close()
    assert (sniff.wait(PATIENCE), sniff.stderr.read()) == (0, b"")
    sniff.stderr.close()


def test_without_net_raw_it_is_exit_code_3_and_one_line(lan: Lan) -> None:
    command = ["setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw", *SNIFF]
    ended = lan.client.run(command, check=False)
    assert (ended.returncode, ended.stdout) == (3, "")
    assert ended.stderr == (
        "carp-sidecar sniff: missing capability NET_RAW: run as root, or with securityContext.capabilities.add "
        "[NET_RAW] in the pod\n"
    )


def test_net_raw_is_all_it_needs(lan: Lan, tmp_path: Path) -> None:
    command = ["setpriv", "--bounding-set=-all,+net_raw", "--inh-caps=-all,+net_raw", *SNIFF]
    with (tmp_path / "out").open("wb") as out:
        sniff = lan.client.popen(command, stdout=out, stderr=subprocess.PIPE)
    assert b"listening for adverts on eth0" in sniff.stderr.readline()
    sniff.terminate()
    assert sniff.wait(PATIENCE) == 0
    sniff.stderr.close()
