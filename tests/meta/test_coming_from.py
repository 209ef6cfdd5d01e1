"""The pages "coming from keepalived" and "coming from kube-vip" leave out no setting that those have."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from sidecar.config.reference import markdown

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
