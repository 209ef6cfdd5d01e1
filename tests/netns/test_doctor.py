"""The doctor on a real LAN: before anything runs, beside a master, with the wrong password, with a stolen address."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sidecar.demo.lan import Lan, Node
from tests.netns.peers import until

pytestmark = pytest.mark.netns

SIDECAR = [sys.executable, "-P", "-m", "sidecar"]
DOCTOR = [*SIDECAR, "doctor", "--json", "--seconds", "2"]
VIPS = ("10.77.0.100", "fd77::64")


class Doctors:
    """The doctor as a command on the LAN's nodes, several at a time."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        (directory / "password").write_text("correct horse")

    def environment(self, node: Node, **more: str) -> dict[str, str]:
        settings = {
            "CARP_VHID": "42",
            "CARP_VIPS": ",".join(VIPS),
            "CARP_PASSWORD_FILE": str(self._directory / "password"),
            "CARP_RUNTIME_DIR": str(self._directory / node.name),
            "CARP_HTTP_LISTEN": "off",
            "NODE_NAME": node.name,
        }
        return {**os.environ, **settings, **more}

    def ask(self, *nodes: tuple[Node, dict[str, str]]) -> list[tuple[int, dict[str, dict[str, str]]]]:
        """Return each one's exit code, and its findings by check."""
        processes = [
            node.popen(DOCTOR, env=self.environment(node, **more), stdout=subprocess.PIPE) for node, more in nodes
        ]
        told = []
        for process in processes:
            out, _ = process.communicate(timeout=60)
            document = json.loads(out)
            assert document["verdict"] in ("pass", "warn", "fail")
            told.append((process.returncode, {each["check"]: each for each in document["findings"]}))
        return told


def test_before_and_after(lan: Lan, tmp_path: Path) -> None:
    first, second, third = lan.nodes
    doctors = Doctors(tmp_path)

    ((code, before),) = doctors.ask((first, {}))
    assert code == 4
    for well in ("privileges", "kernel lifetimes", "default: interface", *(f"default: owner of {vip}" for vip in VIPS)):
        assert before[well]["verdict"] == "pass", before[well]
    assert before["default: adverts"]["verdict"] == "warn"
    assert "127.112" not in first.run(["ip", "addr", "show", "dev", "lo"]).stdout, "nothing stays behind"

    with first.popen([*SIDECAR, "run"], env=doctors.environment(first), stderr=subprocess.DEVNULL) as master:
        until(lambda: VIPS[0] in first.run(["ip", "addr"]).stdout, "the first node is master")
        second.run(["ip", "addr", "add", "10.77.0.101/32", "dev", "eth0"])
        own, backup, stranger = doctors.ask(
            (first, {}), (second, {}), (third, {"CARP_PASSWORD": "another one", "CARP_PASSWORD_FILE": ""})
        )
        stolen, mistaken = doctors.ask((third, {"CARP_VIPS": "10.77.0.101"}), (third, {"CARP_VHID": "300"}))
        master.terminate()

    assert own[1]["default: owner of 10.77.0.100"]["text"] == "this node"
    assert "is master and heard no other" in own[1]["default: adverts"]["text"]
    assert own[1]["default: adverts"]["verdict"] == "pass"

    assert backup[1]["default: adverts"]["text"] == f"arrive from {first.address}, the master"
    for vip in VIPS:
        assert backup[1][f"default: owner of {vip}"]["text"] == f"{first.mac}, while {first.address} is master"

    assert stranger[0] == 1
    assert stranger[1]["default: vhid"]["verdict"] == "fail"
    assert "another password" in stranger[1]["default: vhid"]["text"]
    assert stranger[1]["default: owner of 10.77.0.100"]["verdict"] == "fail"

    assert stolen[1]["default: owner of 10.77.0.101"]["verdict"] == "fail"
    assert second.mac in stolen[1]["default: owner of 10.77.0.101"]["text"]

    assert mistaken[0] == 1
    assert "CARP_VHID: 300 is out of range" in mistaken[1]["settings"]["text"]
