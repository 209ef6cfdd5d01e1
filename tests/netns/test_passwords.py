"""A password is changed node by node, and nobody notices."""

from __future__ import annotations

import contextlib
from pathlib import Path

from sidecar.control import ControlError
from sidecar.demo.lan import Lan
from sidecar.demo.node import SidecarNode
from sidecar.demo.probe import arp_prober
from tests.netns.peers import role, until

VIP = "10.77.0.100"


def password_of(sidecar: SidecarNode, peer: str) -> int:
    with contextlib.suppress(ControlError):
        return next((p.password for p in sidecar.group().peers if p.address == peer), 0)
    return 0


def test_a_password_is_rotated_without_a_second_master(lan: Lan, tmp_path: Path) -> None:
    settings = {"CARP_VHID": "42", "CARP_VIPS": VIP}
    with contextlib.ExitStack() as stack:
        sidecars, files = [], []
        for node in lan.nodes[:2]:
            files.append(tmp_path / f"password-{node.name}")
            files[-1].write_text("old\n")
            sidecar = SidecarNode(node, tmp_path, settings | {"CARP_PASSWORD_FILE": str(files[-1])})
            sidecars.append(stack.enter_context(sidecar))
            until(lambda: role(sidecars[0]) == "master", "the first one is master before the other one comes")

        def one_master() -> bool:
            roles = [role(sidecar) for sidecar in sidecars]
            if sorted(map(str, roles)) != ["backup", "master"]:
                return False
            listening, leading = roles.index("backup"), roles.index("master")
            return password_of(sidecars[listening], lan.nodes[leading].address) > 0

        until(one_master, "one master, heard by its backup")
        with arp_prober(lan, VIP) as prober:
            # First every node learns the new one, then they sign with it, then the old one goes.
            for step in ("old\nnew\n", "new\nold\n", "new\n"):
                for sidecar, file in zip(sidecars, files, strict=True):
                    file.write_text(step)
                    assert sidecar.terminate() == 0
                    sidecar.start()
                    until(one_master, f"one master again after {step!r}")
        assert prober.answers().overlap() == 0.0
        for sidecar in sidecars:
            assert "refused" not in sidecar.log
            assert "better-master" not in sidecar.log
        assert any("uses password 2 of 2" in sidecar.log for sidecar in sidecars)
