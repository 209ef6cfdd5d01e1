"""The pages "coming from keepalived" and "coming from kube-vip" leave out no setting that those have."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from ipaddress import ip_interface
from pathlib import Path

import pytest

from sidecar.config.model import Interface
from sidecar.config.reference import markdown
from sidecar.config.settings import load

ROOT = Path(__file__).parents[2]
PEERS = {"keepalived": "keepalived/keywords.txt", "kube-vip": "kube-vip/variables.txt"}

each_peer = pytest.mark.parametrize("peer", PEERS)


def page(peer: str) -> str:
    return (ROOT / f"docs/coming-from-{peer}.md").read_text()


def rows(peer: str) -> list[tuple[str, str]]:
    """Return the first two cells of each row whose first cell names settings."""
    return [(theirs, ours) for theirs, ours in re.findall(r"^\| ([^|]*`[^|]*) \| ([^|]+) \|", page(peer), re.M)]


@each_peer
def test_every_setting_of_theirs_is_in_a_table(peer: str) -> None:
    theirs = (ROOT / "tests/data" / PEERS[peer]).read_text().split()
    told = {name for cell, _ in rows(peer) for name in re.findall(r"`([\w.*/-]+)`", cell)}
    assert len(theirs) > 90
    assert [name for name in theirs if not any(fnmatchcase(name, pattern) for pattern in told)] == []


@each_peer
def test_every_setting_of_ours_that_is_named_exists_and_the_other_cells_say_so(peer: str) -> None:
    known = set(re.findall(r"`([A-Z_0-9]+)`", markdown()))
    for theirs, ours in rows(peer):
        named = re.findall(r"`([A-Z_0-9]{4,})(?:=\w+)?`", ours)
        assert set(named) <= known, theirs


def test_keepalived_s_example_becomes_settings_that_are_right(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("a password")
    (example,) = re.findall(r"^```yaml\n(.*?)^```", page("keepalived"), re.M | re.S)
    file = tmp_path / "config.yaml"
    file.write_text(example.replace("/run/secrets/carp/password", str(tmp_path / "password")))
    skews = {}
    for node, address in (("node-a", "10.0.0.11"), ("node-b", "10.0.0.12")):
        nic = Interface("eth0", (ip_interface(f"{address}/24"),))
        loaded = load({"CARP_CONFIG_FILE": str(file), "NODE_NAME": node}, interfaces=lambda nic=nic: [nic])
        (group,) = loaded.plan.groups
        skews[node] = group.advskew
    priorities = [int(number) for number in re.findall(r"priority (\d+)\s+# (\d+)", page("keepalived"))[0]]
    assert [254 - skew for skew in skews.values()] == priorities
