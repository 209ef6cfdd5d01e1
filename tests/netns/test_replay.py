"""``CARP_REPLAY=strict`` on a real LAN: what was heard before, or was altered, changes nothing."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sidecar.capture.files import frames
from sidecar.demo.lan import Lan
from sidecar.demo.node import SidecarNode
from sidecar.net.sockets import ETHERNET_HEADER
from sidecar.protocol import packet
from tests.netns.peers import Ucarp, role, status, until

VIP = "10.77.0.100"


@pytest.fixture
def settings(tmp_path: Path, request: pytest.FixtureRequest) -> dict[str, str]:
    """Settings of both; those of a test of its own come by the fixture's parameter."""
    secret = tmp_path / "password"
    secret.write_text("sealed")
    common = {"CARP_VHID": "42", "CARP_VIPS": VIP, "CARP_PASSWORD_FILE": str(secret), "CARP_REPLAY": "strict"}
    return common | getattr(request, "param", {})


@pytest.fixture
def pair(lan: Lan, tmp_path: Path, settings: dict[str, str]) -> Iterator[tuple[SidecarNode, SidecarNode]]:
    """A master (advskew 50) and its backup (100), both strict."""
    with SidecarNode(lan.nodes[0], tmp_path, {**settings, "CARP_ADVSKEW": "50"}) as master:
        until(lambda: role(master) == "master", "the first one becomes master")
        with SidecarNode(lan.nodes[1], tmp_path, {**settings, "CARP_ADVSKEW": "100"}) as backup:
            until(lambda: (s := status(backup)) and s.adverts_received > 2, "its backup hears it")
            yield master, backup


def recorded(lan: Lan, master: SidecarNode, path: Path) -> list[bytes]:
    """Frames that the master's adverts came in."""
    with lan.capture(path):
        sent = master.group().adverts_sent
        until(lambda: master.group().adverts_sent > sent + 2, "three adverts")
    with path.open("rb") as file:
        found = [frame.data for frame in frames(file)]
    return [frame for frame in found if frame[12:14] == b"\x08\x00" and frame[23] == 112]


def forged(frame: bytes, *, advbase: int, advskew: int) -> bytes:
    """The same advert, its HMAC untouched, with another interval: what CARP itself cannot tell from a real one."""
    start = ETHERNET_HEADER + 20
    header = replace(packet.unpack(frame[start:]), advbase=advbase, advskew=advskew)
    return frame[:start] + packet.pack(header)


def inject(lan: Lan, frame: bytes) -> None:
    def opened() -> socket.socket:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        sock.bind(("eth0", 0))
        return sock

    with lan.client.open_socket(opened) as sock:
        sock.send(frame)


def drops(sidecar: SidecarNode, reason: str) -> int:
    return sidecar.group().drops.get(reason, 0)


def test_a_replayed_or_forged_advert_changes_nothing(
    lan: Lan, pair: tuple[SidecarNode, SidecarNode], tmp_path: Path
) -> None:
    master, backup = pair
    frame = recorded(lan, master, tmp_path / "recorded.pcap")[0]

    inject(lan, frame)
    until(lambda: drops(backup, "replayed") == 1, "the replay is counted")

    inject(lan, forged(frame, advbase=255, advskew=255))  # a goodbye that the master never said
    inject(lan, forged(frame, advbase=1, advskew=0))  # and a rival that would depose it, were it believed
    until(lambda: drops(backup, "broken-seal") == 2, "the forgeries are counted")
    until(lambda: drops(master, "own-echo") == 3, "all came with its own source address")

    elsewhere = bytearray(forged(frame, advbase=1, advskew=0))
    elsewhere[26:30] = bytes((10, 77, 0, 9))
    elsewhere[24:26] = bytes(2)
    elsewhere[24:26] = packet.internet_checksum(bytes(elsewhere[14:34])).to_bytes(2, "big")
    inject(lan, bytes(elsewhere))
    until(lambda: drops(master, "broken-seal") == 1, "the spoofed source is counted")

    heard = backup.group().adverts_received
    until(lambda: backup.group().adverts_received > heard + 4, "the master goes on")
    assert (master.group().role, master.group().transitions) == ("master", 2)
    assert (backup.group().role, backup.group().transitions) == ("backup", 1)


def test_takeover_and_the_restart_of_a_node_do_not_trip_it(pair: tuple[SidecarNode, SidecarNode]) -> None:
    master, backup = pair
    master.kill_all()
    until(lambda: role(backup) == "master", "the backup takes over")
    master.start(CARP_PREEMPT="true")
    until(lambda: role(master) == "master", "the first one returns and preempts")
    until(lambda: role(backup) == "backup", "the other one yields to it")
    assert (master.group().drops, backup.group().drops) == ({}, {})


# A lease of 10 s, in which a new engine is there on a busy machine, too.
@pytest.mark.parametrize("settings", [{"CARP_DEAD_RATIO": "10"}], indirect=True)
def test_an_engine_that_dies_resumes_with_valid_seals(pair: tuple[SidecarNode, SidecarNode]) -> None:
    master, backup = pair
    engine = master.pids()["engine"]
    os.kill(engine, signal.SIGKILL)
    until(lambda: master.pids().get("engine", engine) != engine and role(master) == "master", "it resumes")
    heard = backup.group().adverts_received
    until(lambda: backup.group().adverts_received > heard + 4, "the backup hears it")
    assert backup.group().drops == {}


def test_ucarp_accepts_sealed_adverts_and_is_named_as_unsealed(
    lan: Lan, tmp_path: Path, settings: dict[str, str]
) -> None:
    with SidecarNode(lan.nodes[0], tmp_path, settings) as sidecar:
        until(lambda: role(sidecar) == "master", "the sidecar becomes master")
        with Ucarp(lan.nodes[1], tmp_path, vip=VIP, vhid=42, password="sealed", options="-k 100") as ucarp:
            sent = sidecar.group().adverts_sent
            until(lambda: sidecar.group().adverts_sent > sent + 6, "we advertise on")
            assert not ucarp.is_master  # six sealed adverts kept its timer of three from running out
            assert "Bad digest" not in ucarp.log
    with (
        Ucarp(lan.nodes[1], tmp_path, vip=VIP, vhid=42, password="sealed", options="-k 0") as ucarp,
        SidecarNode(lan.nodes[0], tmp_path, settings) as sidecar,
    ):
        until(lambda: ucarp.is_master, "ucarp is master")
        until(lambda: (s := status(sidecar)) and s.drops.get("broken-seal", 0) > 1, "its adverts carry no seal")
        assert sidecar.log.count("CARP_REPLAY=compat") == 1
