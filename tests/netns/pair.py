"""One sidecar of ours and one real ucarp on a LAN of their own, and what must hold of any such pair."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from sidecar.decode import file_records, verifier_from_options
from sidecar.demo.lan import Lan, Node
from sidecar.demo.node import SidecarNode
from tests.netns.peers import Ucarp, role, status, until

VIP = "10.77.0.100"
Side = Literal["ours", "theirs"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How a pair is set up. ``ours`` are settings of the sidecar, ``theirs`` are options of ucarp.

    ``config`` is the sidecar's settings file, instead of vhid and VIPs; its first group is the pair's. ``seats`` are
    the numbers of the nodes that ours and theirs run on; ``sources`` the addresses, where not the nodes', that their
    adverts come from; ``to`` is the MAC and the address that adverts go to; ``calm`` how many adverts of the master
    without any change show that all is settled: twice as long as the other one's timer.
    """

    ours: Mapping[str, str] = field(default_factory=dict)
    theirs: str = ""
    config: str = ""
    vhid: int = 42
    vips: str = VIP
    password: str = "matrix"
    shutdown: bool = True
    nodes: int = 2
    seats: tuple[int, int] = (0, 1)
    sources: tuple[str, str] | None = None
    calm: int = 6
    to: tuple[str, str] = ("01:00:5e:00:00:12", "224.0.0.18")


class Pair:
    """The two of them; neither runs at first. Times are nowhere asserted: ``until`` waits as long as it takes."""

    def __init__(self, lan: Lan, directory: Path, setting: Setting) -> None:
        self.lan = lan
        self.directory = directory
        self.setting = setting
        self.secret = directory / "our-password"
        self.secret.write_text(setting.password + "\n")
        node, other = (lan.nodes[seat] for seat in setting.seats)
        source, their_source = setting.sources or (node.address, other.address)
        self.source = source
        settings = {"CARP_VHID": str(setting.vhid), "CARP_VIPS": setting.vips, "CARP_PASSWORD_FILE": str(self.secret)}
        if setting.config:
            file = directory / "config.yaml"
            file.write_text(setting.config)
            settings |= {"CARP_VHID": "", "CARP_VIPS": "", "CARP_CONFIG_FILE": str(file)}
        if setting.sources:
            settings["CARP_SOURCE_ADDRESS"] = source
            for host, address in ((node, source), (other, their_source)):
                host.run(["ip", "address", "add", f"{address}/16", "dev", "eth0"])
        self.ours = SidecarNode(node, directory, settings | dict(setting.ours))
        self.theirs = Ucarp(
            other,
            directory,
            vip=VIP,
            vhid=setting.vhid,
            password=setting.password,
            options=setting.theirs,
            source=their_source,
            shutdown=setting.shutdown,
        )

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait for a condition, without asking so often that the other pairs starve."""
        until(condition, what, every=0.2)

    def runs(self, side: Side) -> bool:
        return (self.ours if side == "ours" else self.theirs).running

    def leads(self, side: Side) -> bool:
        """Whether that side runs and says that it is master."""
        if not self.runs(side):
            return False
        return role(self.ours) == "master" if side == "ours" else self.theirs.is_master

    def node(self, side: Side) -> Node:
        return self.ours.node if side == "ours" else self.theirs.node

    def begin(self, side: Side) -> None:
        """Start that side and see it become master."""
        (self.ours if side == "ours" else self.theirs).start()
        self.until(lambda: self.leads(side), f"{side} is master")

    def holders(self, vip: str = VIP) -> list[Side]:
        """Who has the VIP on the interface."""
        sides: tuple[Side, ...] = ("ours", "theirs")
        return [side for side in sides if holds(self.node(side), vip)]

    def answers(self, side: Side) -> bool:
        """Whether the client's ping of the VIP is answered by that side: each node has a TTL of its own."""
        done = self.lan.client.run(["ping", "-n", "-c", "1", "-W", "1", VIP], check=False)
        return f" ttl={self.node(side).ttl} " in done.stdout

    def expect(self, master: Side) -> None:
        """Wait until that side alone is master, alone has the VIP, and answers the client."""
        other: Side = "theirs" if master == "ours" else "ours"
        self.until(lambda: self.leads(master) and not self.leads(other), f"{master} alone is master")
        if self.runs("ours"):
            self.until(lambda: role(self.ours) == ("master" if master == "ours" else "backup"), "our role fits")
        self.until(lambda: self.holders() == [master], f"{master} alone has the VIP")
        self.until(lambda: self.answers(master), f"the client is answered by {master}")

    def settle(self, master: Side) -> None:
        """``expect``, and then see that nobody changes anything, says anything or refuses anything."""
        self.expect(master)
        before = self._unchanging()
        self.adverts(self.setting.calm)
        assert self._unchanging() == before
        assert self.holders() == [master]

    def _unchanging(self) -> tuple[object, ...]:
        group = self.ours.group()
        interfaces = [interface.drops for interface in self.ours.status().interfaces]
        said = group.adverts_sent if group.role == "backup" else None
        # ucarp hears up to a second late that we yielded to it, by our last advert.
        theirs = [line for line in self.theirs.log.splitlines() if "Non-preferred master advertising" not in line]
        return group.role, group.transitions, group.drops, said, interfaces, self.ours.log, theirs

    def adverts(self, number: int) -> None:
        """Wait for so many adverts more, ours and theirs taken together, as our side counts them."""

        def counted() -> int:
            found = status(self.ours)
            return 0 if found is None else found.adverts_sent + found.adverts_received

        self.until(counted, "we can be asked")
        before = counted()
        self.until(lambda: counted() >= before + number, f"{number} adverts more")

    def drops(self, reason: str) -> int:
        """How many packets were dropped for that reason, by the group or before."""
        found = self.ours.status()
        return sum(each.drops.get(reason, 0) for each in (*found.groups, *found.interfaces))


def holds(node: Node, vip: str) -> bool:
    return f" {vip}/" in node.run(["ip", "address", "show", "dev", "eth0"]).stdout


@contextlib.contextmanager
def pair(setting: Setting, directory: Path) -> Iterator[Pair]:
    """Make a pair on a LAN of its own, record all that crosses it, and check at the end what we have sent."""
    capture = directory / "lan.pcap"
    with Lan(nodes=setting.nodes, prefix="carpmatrix") as lan:
        made = Pair(lan, directory, setting)
        try:
            with lan.capture(capture):
                yield made
            check_wire(made, capture)
        except BaseException as error:
            error.add_note(f"--- ours:\n{made.ours.log}\n--- ucarp:\n{made.theirs.log}")
            raise
        finally:
            made.ours.kill_all()
            made.theirs.kill()


FIELDS = ("eth.src", "eth.dst", "ip.dst", "ip.ttl", "ip.dsfield", "ip.flags", "ip.checksum.status", "carp.version",
          "carp.type", "carp.authlen", "carp.checksum.status")  # fmt: skip


def check_wire(made: Pair, capture: Path) -> None:
    """See to it that all our adverts are as they must be, in tshark's eyes, and authentic in our own decoder's."""
    setting = made.setting
    words = [word for name in FIELDS for word in ("-e", name)]
    ours = f"carp.vhid == {setting.vhid} && ip.src == {made.source}"
    tshark = ["tshark", "-n", "-d", "ip.proto==112,carp", "-o", "ip.check_checksum:TRUE"]
    printed = subprocess.run(
        [*tshark, "-r", capture, "-Y", ours, "-T", "fields", *words], check=True, capture_output=True, text=True
    ).stdout
    wanted = (made.ours.node.mac, *setting.to, "255", "0x10", "0x02", "1", "2", "1", "7", "1")
    seen = {tuple(line.split("\t")) for line in printed.splitlines()}
    assert seen == {wanted}, f"{seen} where {wanted} was to be sent"
    verifier = verifier_from_options(vips=setting.vips, password_file=str(made.secret))
    with capture.open("rb") as file:
        found = list(file_records(str(capture), file, verifier=verifier, complain=pytest.fail))
    assert {each.reason for each in found if (each.source, each.vhid) == (made.source, setting.vhid)} == {None}
