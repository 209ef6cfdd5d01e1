"""Ended and started again within the lease (``CARP_ON_EXIT=keep``), nobody notices; later, a peer takes over."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from sidecar.demo.lan import Lan
from sidecar.demo.node import SidecarNode
from sidecar.demo.probe import arp_prober
from tests.netns.peers import role, status, until

VIPS = ("10.77.0.100", "fd77::100")


def settings(directory: Path, **changes: str) -> dict[str, str]:
    """Return settings with a lease of 10 s, so that a busy machine starts within it, and commands that say they ran."""
    for name in ("up", "down"):
        script = directory / name
        script.write_text(f'#!/bin/sh\necho {name} >> "{directory}/$3"\n')
        script.chmod(0o755)
    return {
        "CARP_VHID": "42",
        "CARP_VIPS": ",".join(VIPS),
        "CARP_PASSWORD": "secret",
        "CARP_DEAD_RATIO": "10",
        "CARP_ON_EXIT": "keep",
        "CARP_UP_COMMAND": str(directory / "up"),
        "CARP_DOWN_COMMAND": str(directory / "down"),
        "CARP_NEUTRAL": "true",
        **changes,
    }


def bound(sidecar: SidecarNode) -> bool:
    shown = sidecar.node.run(["ip", "address", "show", "dev", "eth0"]).stdout
    return all(f" {vip}/" in shown for vip in VIPS)


def said(directory: Path) -> list[str]:
    file = directory / "said-a"
    return file.read_text().split() if file.exists() else []


@pytest.mark.parametrize("lease", ["auto", "address"])
def test_a_restart_within_the_lease_is_noticed_by_nobody_and_a_longer_one_is_a_takeover(
    lan: Lan, tmp_path: Path, lease: str
) -> None:
    plan = settings(tmp_path, CARP_LEASE=lease)
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(SidecarNode(lan.nodes[0], tmp_path, {**plan, "CARP_XPARAM": "said-a"}))
        until(lambda: role(first) == "master", "the first one is master")
        other = {**plan, "CARP_XPARAM": "said-b", "CARP_ADVSKEW": "100"}
        peer = stack.enter_context(SidecarNode(lan.nodes[1], tmp_path, other))
        until(lambda: role(peer) == "backup", "the other one is its backup")
        until(lambda: said(tmp_path) == ["up"] * 2, "the up command has run")
        with arp_prober(lan, VIPS[0]) as prober:
            until(lambda: len(prober.answers().received) > 50, "the VIP answers")

            assert first.terminate() == 0
            assert bound(first)
            assert role(peer) == "backup"
            first.start()
            until(lambda: role(first) == "master", "a planned restart resumes")
            assert first.group().reason == "resumed"

            first.kill_all()
            first.start()
            until(lambda: role(first) == "master", "so does a start after SIGKILL")
            assert first.group().reason == "resumed"
            heard = peer.group().adverts_received
            until(lambda: peer.group().adverts_received > heard + 1, "the peer hears it")
        answers = prober.answers()
        assert answers.answerers(0.0, float("inf")) == {"node-1"}
        assert answers.outages() == ()
        assert (peer.group().role, peer.group().transitions) == ("backup", 1)
        assert said(tmp_path) == ["up"] * 2

        assert first.terminate() == 0
        until(lambda: role(peer) == "master", "who does not come back is succeeded")
        assert peer.group().reason == "master-down"
        until(lambda: not bound(first), "the kernel takes the VIPs off")
        first.start()
        until(lambda: role(first) == "backup", "who comes back later follows")
        # What stopped without a word cannot run its down command; the next start does, unless it is neutral.
        assert said(tmp_path) == ["up"] * 2


def test_only_what_is_kept_is_resumed(lan: Lan, tmp_path: Path) -> None:
    plan = settings(tmp_path, CARP_XPARAM="said")
    with SidecarNode(lan.nodes[0], tmp_path, plan) as sidecar:
        until(lambda: role(sidecar) == "master", "it is master")
        assert sidecar.terminate() == 0
        assert bound(sidecar)
        sidecar.start(CARP_ON_EXIT="handover")
        until(lambda: (found := status(sidecar)) and found.reason == "start", "it begins as everybody does")
        assert not bound(sidecar)
