"""The judge of changed settings, as a process: what it says is taken, and nothing else that it may do."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator

import pytest

from sidecar.children import reap
from sidecar.live import trial
from sidecar.live.environment import seal
from sidecar.live.trial import ENDS_WITHIN, Trials
from sidecar.live.verdict import Verdict, decode_verdict, encode_verdict
from sidecar.reactor import Reactor
from tests.fakes.plans import group_plan, node_plan


class Court:
    """A parent that has nothing but a judge."""

    def __init__(self, **environ: str) -> None:
        self.environment = seal(environ)
        self.reactor = Reactor()
        self.verdicts: list[Verdict] = []
        self.now = 100.0
        self.trials = Trials(self.environment, self.reactor, self.verdicts.append, clock=lambda: self.now)

    def serve(self) -> Verdict:
        """Wait for the verdict as the parent does."""
        while not self.verdicts:
            self.reactor.turn(0.05)
            running = self.trials.running
            for _, code in reap([] if running is None else [running]):
                self.trials.ended(code)
        return self.verdicts.pop()


@pytest.fixture
def court() -> Iterator[Court]:
    court = Court(CARP_VHID="300", CARP_PASSWORD="hush")
    yield court
    running = court.trials.running
    if running is not None:
        court.trials.kill()
        running.process.wait()
    os.close(court.environment)


def test_mistakes_come_back_line_by_line_and_no_secret_shows(court: Court) -> None:
    court.trials.begin()
    running = court.trials.running
    assert running is not None
    assert court.trials.next() == court.now + ENDS_WITHIN
    assert "hush" not in " ".join(running.process.args)  # type: ignore[arg-type]
    verdict = court.serve()
    assert verdict.plan is None
    assert [line.partition(":")[0] for line in verdict.lines] == ["CARP_VHID", "CARP_VIPS"]
    assert "/etc/carp-sidecar/config.yaml" in verdict.files
    assert "hush" not in repr(verdict)


def test_a_judge_that_takes_too_long_or_dies_is_a_refusal(court: Court) -> None:
    for signal_number, fault in ((signal.SIGKILL, "was ended by SIGKILL"), (None, "it took more than 20 s")):
        court.trials.begin()
        running = court.trials.running
        assert running is not None
        os.kill(running.process.pid, signal_number or signal.SIGSTOP)
        if signal_number is None:
            court.now += ENDS_WITHIN
            court.trials.tick(court.now)
        verdict = court.serve()
        assert verdict.plan is None
        assert verdict.lines[0].startswith("the changed settings cannot be checked: ")
        assert verdict.lines[0].endswith(fault)


def test_a_change_while_it_judges_is_judged_afterwards(court: Court) -> None:
    court.trials.begin()
    first = court.trials.running
    court.trials.begin()
    assert court.trials.running is first
    court.serve()
    assert court.verdicts == []
    assert court.trials.running is None


def test_who_says_too_much_is_ended(court: Court, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "SAYS_AT_MOST", 10)
    court.trials.begin()
    assert "more than 10 bytes" in court.serve().lines[0]


def test_one_that_is_killed_says_nothing(court: Court) -> None:
    court.trials.begin()
    running = court.trials.running
    assert running is not None
    court.trials.kill()
    assert running.process.wait() == -signal.SIGKILL
    court.trials.ended(-9)
    assert (court.verdicts, court.trials.running) == ([], None)
    assert not select.select([court.reactor._poll], [], [], 0)[0]


def test_a_verdict_comes_back_as_it_was_and_nonsense_is_none() -> None:
    verdict = Verdict(plan=node_plan(group_plan()), files={"/x": "1"}, lines=("a warning",))
    assert decode_verdict(encode_verdict(verdict)) == verdict
    assert decode_verdict(b"\xff") is None
    assert decode_verdict(b"{}") is None
