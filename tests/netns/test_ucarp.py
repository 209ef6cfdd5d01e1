"""What the matrix has no cell for: a goodbye far before ucarp's timer, and a start with the wrong password."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from sidecar.decode import Record, file_records, verifier_from_options
from sidecar.demo.lan import Lan
from sidecar.demo.node import SidecarNode
from tests.netns.pair import holds
from tests.netns.peers import Ucarp, role, status, until

VIP = "10.77.0.100"
VHID = 42
PASSWORD = "interoperable"


@pytest.fixture
def ours(lan: Lan, tmp_path: Path) -> Callable[..., SidecarNode]:
    def make(*, password: str = PASSWORD, **settings: str) -> SidecarNode:
        secret = tmp_path / "our-password"
        secret.write_text(password + "\n")
        return SidecarNode(
            lan.nodes[0],
            tmp_path,
            {
                "CARP_VHID": str(VHID),
                "CARP_VIPS": VIP,
                "CARP_PASSWORD_FILE": str(secret),
                "CARP_REPLAY": "compat",
                **settings,
            },
        )

    return make


@pytest.fixture
def theirs(lan: Lan, tmp_path: Path) -> Callable[[str], Ucarp]:
    def make(options: str) -> Ucarp:
        return Ucarp(lan.nodes[1], tmp_path, vip=VIP, vhid=VHID, password=PASSWORD, options=options)

    return make


def adverts(capture: Path) -> list[Record]:
    """The CARP packets of a capture, all of them in order."""
    with capture.open("rb") as file:
        verifier = verifier_from_options(vips=None, password_file=None)
        return list(file_records(str(capture), file, verifier=verifier, complain=pytest.fail))


def moment(record: Record) -> float:
    assert record.time is not None
    return datetime.fromisoformat(record.time).timestamp()


def test_a_planned_stop_hands_over_to_ucarp_before_its_timer(
    lan: Lan, ours: Callable, theirs: Callable, tmp_path: Path
) -> None:
    with ours(CARP_ADVBASE="3") as sidecar:
        until(lambda: role(sidecar) == "master", "we become master")
        with theirs("-b 3 -k 100") as ucarp, lan.capture(tmp_path / "handover.pcap"):
            sent = sidecar.group().adverts_sent
            until(lambda: sidecar.group().adverts_sent > sent + 1, "ucarp hears us")
            assert sidecar.terminate() == 0
            assert not holds(lan.nodes[0], VIP)
            until(lambda: ucarp.is_master, "ucarp takes over")
    packets = adverts(tmp_path / "handover.pcap")
    goodbye = next(packet for packet in packets if (packet.advbase, packet.advskew) == (255, 255))
    first = next(packet for packet in packets if packet.source == lan.nodes[1].address)
    # ucarp's own timer is 9.4 s; a goodbye is acted on at its next poll, 1 s and a scheduling delay later.
    assert moment(goodbye) <= moment(first) < moment(goodbye) + 6.0


def test_who_starts_with_a_wrong_password_waits_beside_the_master(ours: Callable, theirs: Callable) -> None:
    with theirs("-k 0") as ucarp:
        until(lambda: ucarp.is_master, "ucarp becomes master")
        with ours(password="Interoperable") as sidecar:
            until(lambda: (s := status(sidecar)) and s.drops.get("bad-hmac", 0) >= 8, "its adverts are refused")
            found = sidecar.group()
            assert (found.role, found.adverts_sent) == ("backup", 0)
            assert found.held_back
