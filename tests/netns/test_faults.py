"""The fault matrix: each fault on the master of three at the default timing, and who answers then (``faults``).

Each fault has a LAN, three sidecars, and probers of its own. They mostly wait, so several of them run side by side.
Those whose end hangs on how soon an engine starts come after them, one by one, and the one that keeps every core busy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import wait
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.netns import faults
from tests.netns.clock import Clock
from tests.netns.faults import Scene, mirrored, scene
from tests.netns.memory import memory_group
from tests.netns.side_by_side import Outcomes, side_by_side
from tests.netns.trio import OWN, Own

AT_ONCE = 3


def alone(play: Callable[[Scene], None], **settings: str) -> Callable[[Path], None]:
    """A fault that needs nothing more."""

    def run(place: Path) -> None:
        with scene(place, settings) as made:
            play(made)

    return run


def with_agent(play: Callable[[Scene], None]) -> Callable[[Path], None]:
    def run(place: Path) -> None:
        with scene(place, mirrored(place)) as made:
            play(made)

    return run


def out_of_memory(place: Path) -> None:
    with memory_group() as group:
        if group is None:
            pytest.skip("NO MEMORY CGROUP THAT WE MAY USE, so the OOM killer is not tested: neither version 1 nor 2")
        with scene(place, mirrored(place)) as made:
            faults.out_of_memory(made, group)


def all_killed_fast(place: Path) -> None:
    with scene(place, {}, own=faults.FAST) as made:
        faults.all_killed_fast(made)


def clock_stepped(place: Path) -> None:
    clock = Clock(place)
    with scene(place, {"CARP_LOG_FORMAT": "json"}, python=clock.python) as made:
        faults.clock_stepped(made, clock)


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    run: Callable[[Path], None]


CASES = (
    # The longest come first, so that the end is not a wait for a single one.
    Case("multicast lost one way", alone(faults.one_way)),
    Case("clock stepped", clock_stepped),
    Case("agent: SIGSTOP and SIGCONT", with_agent(faults.agent_frozen)),
    Case("cut off", alone(faults.cut_off)),
    Case("all: SIGKILL", with_agent(faults.all_killed)),
    Case("OOM", out_of_memory),
    Case("interface replaced", alone(faults.interface_replaced)),
    Case("engine: SIGSTOP and SIGCONT", alone(faults.engine_frozen)),
    Case("parent: SIGSTOP and SIGCONT", alone(faults.parent_frozen)),
    Case("all: SIGSTOP and SIGCONT", alone(faults.all_frozen)),
    Case("all: SIGKILL, fast", all_killed_fast),
    Case("agent: SIGKILL", with_agent(faults.agent_killed)),
    Case("parent: SIGKILL", alone(faults.parent_killed)),
    Case("parent: SIGKILL, address lease", alone(faults.parent_killed, CARP_LEASE="address")),
    Case("all: SIGSTOP and SIGCONT, address lease", alone(faults.all_frozen, CARP_LEASE="address")),
    Case("carrier lost", alone(faults.carrier_lost)),
    Case("link down", alone(faults.admin_down)),
    Case("VIP deleted", alone(faults.vip_deleted)),
)


@pytest.fixture(scope="module")
def outcomes(
    request: pytest.FixtureRequest,
    real_kernel: None,  # noqa: ARG001 - comes first
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Outcomes]:
    def run(case: Case, place: Path) -> None:
        case.run(place)

    with side_by_side(request, CASES, run, directory=tmp_path_factory.mktemp("f"), at_once=AT_ONCE) as started:
        yield started


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_fault_ends_as_it_must(case: Case, outcomes: Outcomes) -> None:
    outcomes[case.name].result()


@pytest.mark.parametrize("lease", ["auto", "address"])
def test_an_engine_that_is_killed_resumes_and_nobody_notices(outcomes: Outcomes, tmp_path: Path, lease: str) -> None:
    wait(outcomes.values())
    with scene(tmp_path, {"CARP_LEASE": lease}) as made:
        faults.engine_killed(made)


@pytest.mark.parametrize(("setting", "own"), [("off", OWN), ("auto", faults.REALTIME)], ids=["usual", "fast"])
def test_a_busy_loop_on_every_core_changes_nothing(outcomes: Outcomes, tmp_path: Path, setting: str, own: Own) -> None:
    """At the default timing as any process is scheduled; at a fast one by going first."""
    wait(outcomes.values())
    with scene(tmp_path, {"CARP_REALTIME": setting}, own=own) as made:
        faults.starved(made)


def test_the_cases_have_names_of_their_own() -> None:
    assert len({case.name for case in CASES}) == len(CASES)
