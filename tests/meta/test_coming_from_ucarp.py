"""The page "coming from ucarp" names every option that ucarp has, and a setting that exists for each."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from sidecar.config.reference import markdown

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/coming-from-ucarp.md").read_text()
OPTIONS = ROOT / "tests/data/ucarp/options.txt"
"""What ``ucarp --help`` of Debian's 1.5.2+git20192404 says of its options, one a line."""

ROW = re.compile(r"^\| `-(\w)`, `--(\w+)` \| (.+?) \|", re.M)
KEPT_OUT = {"help", "daemonize", "facility"}
"""What has no setting here."""


def options(text: str) -> set[tuple[str, str]]:
    """Return the (short, long) names in lines such as ``--mcast=<ip> (-m <ip>): multicast group``."""
    return {(short, name) for name, short in re.findall(r"^--(\w+)(?:=\S+)? \(-(\w)", text, re.M)}


def test_every_option_is_in_the_table_once() -> None:
    rows = [(short, name) for short, name, _ in ROW.findall(PAGE)]
    assert len(rows) == len(set(rows))
    assert set(rows) == options(OPTIONS.read_text())
    assert len(rows) == 22


def test_every_option_has_a_setting_that_exists_or_is_said_to_have_none() -> None:
    known = set(re.findall(r"`(CARP_[A-Z_0-9]+)`", markdown()))
    for _, name, here in ROW.findall(PAGE):
        settings = re.findall(r"`(CARP_[A-Z_]+)(?:=\w+)?`", here)
        assert bool(settings) is (name not in KEPT_OUT), name
        assert set(settings) <= known, name


def test_the_installed_ucarp_has_the_same_options() -> None:
    path = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    ucarp = shutil.which("ucarp", path=path)
    if ucarp is None:
        pytest.skip("NO ucarp, so its options are not compared with our copy: `make system-packages` installs it")
    said = subprocess.run([ucarp, "--help"], check=False, capture_output=True, text=True).stdout
    assert options(said) == options(OPTIONS.read_text())
