"""One fault each on the master of three, at the default timing, judged by who answers then, and in what order.

Nothing hangs on how long it takes: a probe that two nodes answer, an address that two nodes have, a role that changed.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from sidecar.demo.lan import Lan, Node
from tests.netns.clock import Clock
from tests.netns.memory import MemoryGroup
from tests.netns.peers import PATIENCE, role, until
from tests.netns.trio import IPV4, OWN, VIP, VIP6, Own, Setting, Trio
from tests.netns.witness import Mark, Witness, doubles, order, shared, taken_for, unanswered, witness

INTERVAL = 1000
"""Probes in the time between two adverts of the master."""
_KUBECONFIG = """\
apiVersion: v1
kind: Config
clusters: [{name: none, cluster: {server: "http://127.0.0.1:9"}}]
users: [{name: none, user: {}}]
contexts: [{name: none, context: {cluster: none, user: none}}]
current-context: none
"""


@dataclass(frozen=True, slots=True)
class Scene:
    """Three sidecars, the first one master, and what is seen of them.

    ``exclusive``: a lease ends with its address, so that no two nodes may ever have one; where nftables ends it, the
    address of whoever has fallen silent is taken off a little later.
    """

    three: Trio
    seen: Witness
    exclusive: bool

    def expect(self, master: int, *, absent: Collection[int] = ()) -> None:
        """Wait until that one is master and answers, and all others that run, but for the absent, follow it."""
        three, leader = self.three, self.three.sidecars[master]
        three.until(lambda: role(leader) == "master", f"{leader.node.name} is master")
        for number, sidecar in enumerate(three.sidecars):
            if number != master and number not in absent and sidecar.running:
                three.until(lambda one=sidecar: three.follows(one, master), f"{sidecar.node.name} follows")
        three.until(lambda: self.seen.answering() == {leader.node.name}, f"{leader.node.name} answers")

    def transitions(self, *numbers: int) -> list[int]:
        return [self.three.sidecars[number].group().transitions for number in numbers]

    def lost(self, since: Mark) -> set[str]:
        """Return the addresses that were taken off some node, and put back or not."""
        return {event.address for event in self.seen.events[since.events :] if not event.bound}

    def pass_to_the_second(self, since: Mark, *, absent: Collection[int] = ()) -> None:
        """See the VIP go from the first node to the second, and nobody else, with nobody answering beside another."""
        self.expect(1, absent=absent)
        self.alone(since, ["node-1", "node-2"])

    def alone(self, since: Mark, answerers: list[str]) -> None:
        """See that exactly these answered, in this order, never two at once."""
        answers, answers6, events = self.seen.answers, self.seen.answers6, self.seen.events
        if "node-2" in answerers:  # run late, it takes over from the third one, which stood up in its place
            answers, answers6 = (taken_for(each, "node-3", "node-2") for each in (answers, answers6))
            events = [replace(each, node="node-2") if each.node == "node-3" else each for each in events]
        assert doubles(answers, since.probes) == [], "two nodes answered the same probe"
        assert doubles(answers6, since.probes6) == [], "two nodes answered the same probe, over IPv6"
        both = [number for number in shared(events) if number >= since.events]
        assert not self.exclusive or both == [], "two nodes had an address at the same time"
        assert order(answers, since.probes) == answerers

    def nothing_happens(self, since: Mark, before: list[int]) -> None:
        """See that the first node goes on, that nobody's role changed, and that no VIP was ever off."""
        self.three.adverts(0, 4)  # longer than the second one would wait
        self.expect(0)
        assert self.transitions(1, 2) == before[1:]
        assert self.lost(since) == set()
        self.alone(since, ["node-1"])


FAST = (
    {"CARP_ADVBASE": "0", "CARP_ADVSKEW": "64"},
    {"CARP_ADVBASE": "0", "CARP_ADVSKEW": "72", "CARP_PREEMPT": "true"},
    {"CARP_ADVBASE": "0", "CARP_ADVSKEW": "96"},
)
"""An advert every 0.25 s, and a lease of 0.74 s: as fast as a busy machine keeps its time."""
FAST_LEASE = 850
"""Probes in that time, and some that a busy machine adds."""


@contextlib.contextmanager
def scene(
    directory: Path, settings: Mapping[str, str], *, python: str = sys.executable, own: Own = OWN
) -> Iterator[Scene]:
    """Make the three on a LAN of their own and see the first one lead; ``python`` is its interpreter."""
    setting = Setting(settings=settings, vips=(VIP, VIP6), sources={4: IPV4}, own=own)
    with Lan(nodes=3, prefix="carpfault") as lan, contextlib.ExitStack() as stack:
        three = Trio(lan, directory, setting, first_python=python)
        for sidecar in three.sidecars:
            stack.callback(sidecar.kill_all)
        seen = stack.enter_context(witness(lan, VIP, VIP6, directory))
        made = Scene(three, seen, exclusive=settings.get("CARP_LEASE") == "address")
        try:
            first, *others = three.sidecars
            first.start()
            three.until(lambda: role(first) == "master", "the first one is master")
            for sidecar in others:
                sidecar.start()
            made.expect(0)
            yield made
        except BaseException as error:
            error.add_note("\n".join(f"--- {each.node.name}:\n{each.log}" for each in three.sidecars))
            raise


def mirrored(directory: Path) -> dict[str, str]:
    """Settings with which the agent runs too; it never reaches an API server."""
    kubeconfig = directory / "kubeconfig"
    kubeconfig.write_text(_KUBECONFIG)
    return {"CARP_KUBERNETES": "on", "KUBECONFIG": str(kubeconfig), "POD_NAME": "p", "POD_NAMESPACE": "default"}


# Processes that end ----------------------------------------------------------------------------------------------


def engine_killed(scene: Scene) -> None:
    """The parent starts another one, which goes on as master; nobody notices."""
    first, before, since = scene.three.sidecars[0], scene.transitions(0, 1, 2), scene.seen.now()
    engine = first.pids()["engine"]
    os.kill(engine, signal.SIGKILL)
    scene.three.until(lambda: first.pids().get("engine", engine) != engine, "another engine runs")
    scene.three.until(lambda: role(first) == "master", "it leads")
    assert first.group().reason == "resumed"
    scene.nothing_happens(since, before)


def agent_killed(scene: Scene) -> None:
    """Nobody notices but the label."""
    first, before, since = scene.three.sidecars[0], scene.transitions(0, 1, 2), scene.seen.now()
    agent = _agent(scene)
    os.kill(agent, signal.SIGKILL)
    scene.three.until(lambda: first.pids().get("agent", agent) != agent, "another agent runs")
    scene.nothing_happens(since, before)
    assert scene.transitions(0) == before[:1]


def parent_killed(scene: Scene) -> None:
    """Its children end, the leases run out."""
    first, since = scene.three.sidecars[0], scene.seen.now()
    children = [pid for name, pid in first.pids().items() if name != "parent"]
    os.kill(first.pid, signal.SIGKILL)
    scene.three.until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children), "its children end")
    first.wait()
    scene.pass_to_the_second(since)


def all_killed(scene: Scene) -> None:
    """The leases run out; started anew, it follows."""
    first, since = scene.three.sidecars[0], scene.seen.now()
    first.kill_all()
    scene.pass_to_the_second(since)
    first.start()
    scene.pass_to_the_second(since)


def all_killed_fast(scene: Scene) -> None:
    """Whoever takes over while the lease of the dead stands answers beside it, but never for longer than that."""
    first = scene.three.sidecars[0]
    first.kill_all()
    since = scene.seen.now()
    scene.expect(1)
    scene.three.adverts(1, 8)  # two seconds
    answers = scene.seen.answers
    dead = {answer.probe for answer in answers.received if answer.node == "node-1" and answer.probe >= since.probes}
    assert len(dead) <= FAST_LEASE
    assert set(doubles(answers, since.probes)) <= dead
    assert order(answers, since.probes)[-1] == "node-2"


def out_of_memory(scene: Scene, group: MemoryGroup) -> None:
    """The OOM killer ends the sidecar, the largest process first; the leases run out."""
    first, since = scene.three.sidecars[0], scene.seen.now()
    group.run_out(first.pids().values(), lambda: not first.running, within=PATIENCE)
    assert group.kills >= 1
    scene.pass_to_the_second(since)


# Processes that stand still --------------------------------------------------------------------------------------


def engine_frozen(scene: Scene) -> None:
    """The lease ends, since nobody renews it; back to life, it finds itself deposed."""
    _freeze(scene, ["engine"])


def parent_frozen(scene: Scene) -> None:
    """The lease ends, since nobody renews it; the engine says so, and follows whoever took over."""
    _freeze(scene, ["parent"])


def all_frozen(scene: Scene) -> None:
    """As if the machine had stood still."""
    _freeze(scene, ["engine", "parent"])


def agent_frozen(scene: Scene) -> None:
    """Nobody notices but the label."""
    before, since = scene.transitions(0, 1, 2), scene.seen.now()
    agent = _agent(scene)
    with _stopped([agent]):
        scene.nothing_happens(since, before)
    scene.nothing_happens(since, before)
    assert scene.transitions(0) == before[:1]


def _freeze(scene: Scene, names: Collection[str]) -> None:
    first, since = scene.three.sidecars[0], scene.seen.now()
    pids = first.pids()
    with _stopped([pids[name] for name in names]):
        scene.pass_to_the_second(since, absent={0})
    scene.pass_to_the_second(since)  # and it stays so
    scene.three.adverts(1, 3)
    scene.pass_to_the_second(since)
    assert first.pids()["engine"] == pids["engine"]


@contextlib.contextmanager
def _stopped(pids: list[int]) -> Iterator[None]:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def _agent(scene: Scene) -> int:
    first = scene.three.sidecars[0]
    scene.three.until(lambda: "agent" in first.pids(), "the agent runs")
    return first.pids()["agent"]


# The network -----------------------------------------------------------------------------------------------------


def cut_off(scene: Scene) -> None:
    """Its carrier stays, and it cannot know; healed, the better one stays, after an interval at most.

    The client goes along each time, although it never asks where a VIP is.
    """
    three, since = scene.three, scene.seen.now()
    first, second, _ = three.lan.nodes
    _client_is_at(three, first)
    three.lan.cut(first)
    scene.pass_to_the_second(since, absent={0})
    _client_is_at(three, second)
    assert scene.transitions(0) == [2]
    since = scene.seen.now()
    three.lan.heal(first)
    scene.expect(0)
    three.until(lambda: scene.seen.holders(VIP) == {"node-1"}, "the other one has let go")
    _client_is_at(three, first)
    answers = scene.seen.answers
    assert len(doubles(answers, since.probes)) <= INTERVAL * 3  # one, and what a busy machine adds
    assert set(order(answers, since.probes)) == {"node-1", "node-2"}
    since = scene.seen.now()
    three.adverts(0, 4)
    scene.expect(0)
    scene.alone(since, ["node-1"])


def _client_is_at(three: Trio, node: Node) -> None:
    """Wait until that node answers the client, by what it was told of where the VIPs are."""
    for vip in (VIP, VIP6):
        three.until(lambda vip=vip: three.answers(vip) == node.name, f"the client reaches {vip} at {node.name}")
        assert three.neighbour(vip) == node.mac


def carrier_lost(scene: Scene) -> None:
    """It lets go at once; with the carrier back, it listens first and follows."""
    three, since = scene.three, scene.seen.now()
    three.lan.link_down(three.lan.nodes[0])
    three.until(lambda: role(three.sidecars[0]) == "init", "it has let go")
    scene.pass_to_the_second(since, absent={0})
    three.lan.link_up(three.lan.nodes[0])
    scene.pass_to_the_second(since)


def admin_down(scene: Scene) -> None:
    """As with a lost carrier; the kernel takes the IPv6 addresses by itself."""
    three, since = scene.three, scene.seen.now()
    node = three.lan.nodes[0]
    node.run(["ip", "link", "set", "eth0", "down"])
    three.until(lambda: role(three.sidecars[0]) == "init", "it has let go")
    scene.pass_to_the_second(since, absent={0})
    node.run(["ip", "link", "set", "eth0", "up"])
    scene.pass_to_the_second(since)


def interface_replaced(scene: Scene) -> None:
    """Deleted and made anew: its groups wait for it, and follow; no process ends."""
    three, since = scene.three, scene.seen.now()
    node, sidecar = three.lan.nodes[0], three.sidecars[0]
    pids = sidecar.pids()
    three.lan.remove_interface(node)
    scene.pass_to_the_second(since, absent={0})
    three.lan.make_interface(node)
    scene.pass_to_the_second(since)
    three.sidecars[2].terminate()  # it would lead where the first one is run late
    three.sidecars[1].terminate()
    scene.expect(0)
    scene.alone(since, ["node-1", "node-2", "node-1"])
    assert sidecar.pids() == pids


def one_way(scene: Scene) -> None:
    """What the master sends to all reaches nobody. It hears who takes over and answers by unicast: that one yields."""
    three, since = scene.three, scene.seen.now()
    before = scene.transitions(0, 1, 2)
    first, *others = three.lan.nodes
    for node in others:
        node.run(["nft", "add table netdev deaf"])
        node.run(["nft", "add chain netdev deaf in { type filter hook ingress device eth0 priority 0 ; }"])
        node.run(["nft", "add rule netdev deaf in", f"ether saddr {first.mac} ip daddr 224.0.0.18 drop"])
    # The second time shows that a rival does not hear what is sent to all: now it gets every advert by unicast.
    for number in (1, 2):
        three.until(
            lambda number=number: scene.transitions(number) >= [before[number] + 4], "it took over and yielded, twice"
        )
    scene.expect(0)
    # Each time until the answer came, and what a busy machine adds.
    assert len(doubles(scene.seen.answers, since.probes)) <= INTERVAL * 3
    settled = scene.transitions(0, 1, 2)
    three.adverts(0, 6)
    scene.expect(0)
    assert scene.transitions(0, 1, 2) == [before[0], *settled[1:]], "and then peace"


# Clocks and the rest -----------------------------------------------------------------------------------------------


def vip_deleted(scene: Scene) -> None:
    """Whoever takes a VIP off its node: it is back within an advert interval, that is told, and no role changes."""
    first, before, since = scene.three.sidecars[0], scene.transitions(0, 1, 2), scene.seen.now()
    for vip in (VIP, VIP6):
        first.node.run(["ip", "address", "delete", f"{vip}/{32 if vip == VIP else 128}", "dev", "eth0"])
    until(lambda: scene.lost(since) == {VIP, VIP6}, "the ledger has it")
    for vip in (VIP, VIP6):
        until(lambda vip=vip: scene.seen.holders(vip) == {"node-1"}, f"{vip} is back")
    scene.three.until(lambda: first.group().disturbances >= 2, "both are counted")
    assert first.log.count("it is put back and announced again") >= 1
    scene.three.adverts(0, 4)
    scene.expect(0)
    assert scene.transitions(0, 1, 2) == before
    assert unanswered(scene.seen.answers, since.probes) <= INTERVAL, "within an advert interval"
    scene.alone(since, ["node-1"])


def clock_stepped(scene: Scene, clock: Clock) -> None:
    """Forward and back, and then wrong for good: timers and seals go by other clocks."""
    first, before, since = scene.three.sidecars[0], scene.transitions(0, 1, 2), scene.seen.now()
    for step in (3600.0, -3600.0):
        clock.step(step)
        os.kill(first.pid, signal.SIGUSR1)
        scene.three.until(lambda step=step: _says(first.log, time.time() + step), "its log has the stepped clock")
        scene.nothing_happens(since, before)
    assert scene.transitions(0) == before[:1]
    engine_killed(scene)  # the next one finds the clock set back, and still seals above what its peers have heard
    assert [sidecar.group().drops for sidecar in scene.three.sidecars] == [{}, {}, {}]


def _says(log: str, wall: float) -> bool:
    """Whether the last line was written at about that time."""
    written = json.loads(log.splitlines()[-1])["time"]
    return abs(datetime.fromisoformat(written).timestamp() - wall) < 600


REALTIME = tuple({"CARP_ADVBASE": "0", "CARP_ADVSKEW": skew} for skew in ("16", "20", "24"))
"""An advert every 63 ms, and a peer that waits for 0.23 s."""


def starved(scene: Scene) -> None:
    """A busy loop on every core: the master is late, but not as late as its peers wait."""
    before, since = scene.transitions(0, 1, 2), scene.seen.now()
    with _busy():
        scene.three.adverts(0, 6)
        scene.alone(since, ["node-1"])
    scene.nothing_happens(since, before)
    assert scene.transitions(0) == before[:1]


@contextlib.contextmanager
def _busy() -> Iterator[None]:
    hog = ["setpriv", "--pdeathsig", "KILL", "--", "sh", "-c", "while :; do :; done"]
    hogs = [subprocess.Popen(hog) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for each in hogs:
            each.kill()
            each.wait()
