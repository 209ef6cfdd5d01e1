"""Settings that change while the sidecar runs, as the kubelet changes them: only those who are concerned notice."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.control import ControlError
from sidecar.demo.lan import Lan
from sidecar.demo.node import SidecarNode
from sidecar.demo.probe import arp_prober
from sidecar.ipc.messages import GroupStatus, SettingsStatus
from tests.fakes.mount import Mount
from tests.netns.peers import until

WEB, DB, MAIL = "10.77.0.100", "10.77.0.101", "10.77.0.102"


class Managed:
    """A sidecar whose settings and password are mounts."""

    def __init__(self, lan: Lan, number: int, directory: Path) -> None:
        self.config = Mount(directory / f"config-{number}")
        self.secret = Mount(directory / f"secret-{number}")
        self.groups: dict[str, dict[str, object]] = {
            "web": {"vhid": 1, "vips": [WEB], "advskew": 100 * number},
            "db": {"vhid": 2, "vips": [DB], "advskew": 100 * number},
        }
        self.secret.put(password="old\n")
        self.apply()
        settings = {"CARP_CONFIG_FILE": str(self.config.directory / "config.yaml")}
        self.sidecar = SidecarNode(lan.nodes[number], directory, settings)

    def apply(self, **top: object) -> None:
        groups = [{"name": name, **keys} for name, keys in self.groups.items()]
        text = {"password_file": str(self.secret.directory / "password"), "groups": groups, **top}
        self.config.put(**{"config.yaml": json.dumps(text)})

    def group(self, name: str) -> GroupStatus | None:
        with contextlib.suppress(ControlError):
            return next((group for group in self.sidecar.status().groups if group.name == name), None)
        return None

    def role(self, name: str) -> str | None:
        group = self.group(name)
        return None if group is None else group.role

    def settings(self) -> SettingsStatus:
        found = self.sidecar.status().settings
        assert found is not None
        return found

    def until_generation(self, number: int) -> None:
        until(lambda: self.settings().generation == number, f"generation {number} is in force")


@pytest.fixture
def pair(lan: Lan, tmp_path: Path) -> Iterator[tuple[Managed, Managed]]:
    first, second = Managed(lan, 0, tmp_path), Managed(lan, 1, tmp_path)
    try:
        first.sidecar.start()
        until(lambda: first.role("web") == first.role("db") == "master", "the first is master")
        second.sidecar.start()
        until(lambda: second.role("web") == second.role("db") == "backup", "the second is backup")
        yield first, second
    except BaseException as error:
        for each in (first, second):
            error.add_note(f"--- {each.sidecar.node.name}:\n{each.sidecar.log}")
        raise
    finally:
        for each in (first, second):
            each.sidecar.kill_all()


def check_silence(group: GroupStatus | None, before: GroupStatus) -> None:
    """Nothing happened to a group but that time went by."""
    assert group is not None
    assert (group.role, group.transitions, group.since) == (before.role, before.transitions, before.since)
    assert group.adverts_sent >= before.adverts_sent
    assert group.announcements - before.announcements <= 4


def test_settings_change_while_it_runs(lan: Lan, pair: tuple[Managed, Managed]) -> None:
    first, second = pair
    pids = first.sidecar.pids()
    with arp_prober(lan, WEB) as web, arp_prober(lan, DB) as db:
        change_in_place(first, second)
        refuse_what_is_wrong(first)
        rotate_the_password(first, second)
        add_and_remove(first)
        hand_over_what_cannot_be_kept(first, second)
    assert db.answers().overlap() == 0.0
    assert web.answers().overlap() == 0.0
    assert first.sidecar.pids() == pids
    for each in pair:
        assert "Traceback" not in each.sidecar.log
        assert "refused: the password" not in each.sidecar.log
        assert each.sidecar.terminate() == 0


def change_in_place(first: Managed, second: Managed) -> None:
    """One group gets another advskew and keeps its role; the other one hears nothing of it."""
    web, db = first.group("web"), first.group("db")
    assert web is not None
    assert db is not None
    first.groups["web"]["advskew"] = 10
    first.apply()
    first.until_generation(2)
    changed = first.group("web")
    assert changed is not None
    assert (changed.advskew, changed.role, changed.transitions) == (10, "master", web.transitions)
    check_silence(first.group("db"), db)
    heard = second.group("web")
    assert heard is not None
    until(lambda: _advskew_heard(second, "web") == 10, "the backup hears the new one")
    assert "the settings have changed: changed in place: web" in first.sidecar.log


def _advskew_heard(node: Managed, name: str) -> int | None:
    group = node.group(name)
    return None if group is None else next((peer.advskew for peer in group.peers), None)


def refuse_what_is_wrong(first: Managed) -> None:
    """Said once, in the log and the status; a SIGHUP asks again; the next good one is taken."""
    before = first.group("web")
    assert before is not None
    first.groups["web"]["vhid"] = 300
    first.apply()
    until(lambda: first.settings().errors, "it is refused")
    refused = first.settings()
    (line,) = refused.errors
    assert "config.yaml: groups[0].vhid: 300 is out of range; " in line
    assert (refused.generation, refused.refused_since is None) == (2, False)
    said = first.sidecar.log.count(line)
    assert said == 1
    first.apply(preempt=True)  # wrong still, in the same way
    os.kill(first.sidecar.pid, signal.SIGHUP)
    until(lambda: first.sidecar.log.count(line) == 2, "it is said again to whoever asks")
    first.groups["web"]["vhid"] = 1
    first.apply(preempt=True)
    first.until_generation(3)
    assert first.settings().errors == ()
    after = first.group("web")
    assert after is not None
    assert (after.role, after.transitions) == (before.role, before.transitions)
    os.kill(first.sidecar.pid, signal.SIGHUP)
    until(lambda: "the settings are what is in force already" in first.sidecar.log, "there is nothing new")


def rotate_the_password(first: Managed, second: Managed) -> None:
    """Two passwords, the new one first, the new one alone: nobody stops, nobody becomes a second master."""
    generations = first.settings().generation, second.settings().generation
    for number, text in enumerate(("old\nnew\n", "new\nold\n", "new\n"), 1):
        for each in (first, second):
            each.secret.put(password=text)
        for each, generation in zip((first, second), generations, strict=True):
            each.until_generation(generation + number)
    adverts = second.group("web")
    assert adverts is not None

    def heard() -> bool:
        group = second.group("web")
        return group is not None and group.adverts_received > adverts.adverts_received + 1

    until(heard, "the backup hears the master by the new password")
    assert (first.role("web"), second.role("web")) == ("master", "backup")
    assert second.group("web").drops.get("bad-hmac", 0) == 0  # type: ignore[union-attr]


def add_and_remove(first: Managed) -> None:
    """A group begins as at a start, and leaves nothing when it goes."""
    db = first.group("db")
    assert db is not None
    generation = first.settings().generation
    first.groups["mail"] = {"vhid": 3, "vips": [MAIL]}
    first.apply(preempt=True)
    first.until_generation(generation + 1)
    until(lambda: first.role("mail") == "master", "the new group becomes master")
    assert f" {MAIL}/" in first.sidecar.node.run(["ip", "address", "show", "dev", "eth0"]).stdout
    del first.groups["mail"]
    first.apply(preempt=True)
    first.until_generation(generation + 2)
    assert first.group("mail") is None
    assert MAIL not in first.sidecar.node.run(["ip", "address", "show", "dev", "eth0"]).stdout
    assert MAIL not in first.sidecar.node.run(["nft", "list", "ruleset"]).stdout
    check_silence(first.group("db"), db)


def hand_over_what_cannot_be_kept(first: Managed, second: Managed) -> None:
    """Another vhid is another group on the wire: the old one is handed over and the new one begins."""
    db = first.group("db")
    assert db is not None
    generation = first.settings().generation
    first.groups["web"]["vhid"] = 9
    first.groups["web"]["vips"] = [MAIL]
    first.apply(preempt=True)
    first.until_generation(generation + 1)
    until(lambda: second.role("web") == "master", "the other node takes over")
    until(lambda: first.role("web") == "master", "the new group is master of its own")
    check_silence(first.group("db"), db)
