"""Two nodes of one setup and the observer on a LAN of their own."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from bench.failover.nodes import VIPS, Contender, make
from bench.failover.observer import Seen
from bench.failover.setups import Setup
from sidecar.demo.lan import Lan

PATIENCE = 40.0
"""Seconds within which a state must come that always comes, on a machine that is not quite idle."""


class StageError(RuntimeError):
    """The two did not come to where the measurement begins; the message has their logs."""


class Observer:
    """The observer's process, and who answers now."""

    def __init__(self, lan: Lan, setup: Setup, directory: Path, *, interval: float) -> None:
        self._output = directory / "seen.json"
        client = lan.client
        sources = {4: client.address, 6: client.address6}
        probes = [f"--probe={sources[version]},{VIPS[version]}" for version in setup.versions]
        command = [sys.executable, "-m", "bench.failover.observer", f"--mac={client.mac}", f"--interval={interval}"]
        self._process = client.popen(
            [*command, f"--output={self._output}", *probes], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._now = dict.fromkeys(setup.versions, 0)
        self._reader = threading.Thread(target=self._read, daemon=True)
        assert self._process.stdout is not None
        self._process.stdout.readline()  # ready
        self._reader.start()

    def answering(self) -> set[int]:
        """The TTLs of those who answer the client now; 0 among them where nobody does."""
        return set(self._now.values())

    def end(self) -> list[Seen]:
        """End it; return what it has seen."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE)
        self._reader.join()
        return msgspec.json.decode(self._output.read_bytes(), type=list[Seen])

    def kill(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.kill()
        self._process.wait()
        self._reader.join()
        self._process.stdin.close()
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            version, ttl = map(int, line.split())
            self._now[version] = ttl


class Stage:
    """``first`` is preferred; neither runs at the beginning."""

    def __init__(self, lan: Lan, observer: Observer, first: Contender, other: Contender) -> None:
        self.lan = lan
        self.observer = observer
        self.first = first
        self.other = other

    def until(self, condition: Callable[[], object], what: str, *, within: float = PATIENCE) -> None:
        """Wait. Raises StageError."""
        give_up = time.monotonic() + within
        while not condition():
            if time.monotonic() > give_up:
                logs = "\n".join(f"--- {each.node.name}:\n{each.log[-2000:]}" for each in (self.first, self.other))
                raise StageError(f"not within {within:.0f} s: {what}\n{logs}")
            time.sleep(0.05)

    def answers(self, contender: Contender) -> bool:
        """Whether that one alone answers the client, over all IP versions."""
        return self.observer.answering() == {contender.node.ttl}

    def begin(self) -> None:
        """Start both; return when the first one leads and the other one listens."""
        self.first.start()
        self.until(lambda: self.answers(self.first), "the first one answers")
        self.other.start()
        self.until(self.other.listens, "the other one listens")


@contextlib.contextmanager
def stage(setup: Setup, *, mirror: bool = False, interval: float = 0.001) -> Iterator[Stage]:
    """Set the stage; at the end nothing of it is left."""
    with tempfile.TemporaryDirectory(prefix="carp-bench-") as name, Lan(nodes=2, prefix="carpbench") as lan:
        directory = Path(name)
        for node in lan.nodes:
            for address in (lan.client.address, lan.client.address6):
                # No answer waits for a question of the node's own.
                node.run(f"ip neighbour replace {address} lladdr {lan.client.mac} dev eth0 nud permanent".split())
        first, other = (
            make(setup, node, directory, preferred=preferred, mirror=mirror)
            for node, preferred in zip(lan.nodes, (True, False), strict=True)
        )
        observer = Observer(lan, setup, directory, interval=interval)
        try:
            yield Stage(lan, observer, first, other)
        finally:
            for contender in (first, other):
                contender.end()
            observer.kill()


def holds(contender: Contender, vip: str) -> bool:
    """Whether the node has the VIP on any interface."""
    return f" {vip}/" in contender.node.run(["ip", "-o", "address", "show"]).stdout
