"""The book of measurements: what is still to be run, and that nothing is lost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.failover.faults import PLAYS, Cost, Outcome
from bench.failover.setups import CANDIDATES, DEFAULTS, Fastest, Fault, Mac, Product, Setup, key, setups
from bench.failover.store import COST, COST_RUNS, Book, Shelf, Unit, missing, units

FASTEST = Fastest(
    seconds=600.0,
    load=0.1,
    names={
        key(Product.OURS, Mac.INTERFACE): CANDIDATES[Product.OURS][3].name,
        key(Product.KEEPALIVED, Mac.VIRTUAL): CANDIDATES[Product.KEEPALIVED][0].name,
    },
)


def outcome(setup: Setup, fault: Fault, *, version: int = 4, outage: float = 0.0, two: float = 0.0) -> Outcome:
    return Outcome(
        setup=setup.name, speed=setup.speed.name, fault=fault, version=version, at=1.0, load=0.5, outage=outage,
        two=two, takeover=3.0, left=False, looked=6.0, pause=0.01,
    )  # fmt: skip


def cost(setup: Setup) -> Cost:
    cpu, memory = {"parent": 0.1, "engine": 0.2}, {"parent": 30.0, "engine": 20.0}
    return Cost(setup=setup.name, speed=setup.speed.name, at=1.0, load=0.5, cpu=cpu, memory=memory)


def unchanged(_: list[Unit]) -> None:
    pass


def test_every_product_is_at_its_default_and_at_its_fastest_where_that_is_known() -> None:
    names = [setup.name for setup in setups(FASTEST)]
    assert names == [
        "carp-sidecar, default, interface MAC",
        "carp-sidecar, fastest, interface MAC",
        "carp-sidecar, default, virtual MAC",
        "keepalived, default, interface MAC",
        "keepalived, default, virtual MAC",
        "keepalived, fastest, virtual MAC",
        "ucarp, default, interface MAC",
        "carp-sidecar, advskew 4, virtual MAC",
    ]


def test_the_timers_are_those_of_the_products() -> None:
    assert DEFAULTS[Product.OURS].down == pytest.approx(3 + 1 / 256)
    assert DEFAULTS[Product.KEEPALIVED].down == pytest.approx(3 + 156 / 256)
    assert DEFAULTS[Product.UCARP].down == pytest.approx(3 + 1 / 256)
    assert {speed.name: speed.down for speed in CANDIDATES[Product.OURS]}[
        "advbase 0, advskew 4 and 5"
    ] == pytest.approx(15 / 256)
    assert CANDIDATES[Product.KEEPALIVED][0].down == pytest.approx(0.03 + 0.01 * 3 / 256)
    for each in CANDIDATES.values():
        assert len({speed.name for speed in each}) == len(each)


def test_cells_are_chosen_by_a_pattern_or_a_part_of_their_name() -> None:
    every = units(setups(FASTEST), "*")
    assert len(every) == len(setups(FASTEST)) * (len(PLAYS) + 1)
    assert {unit.play for unit in units(setups(FASTEST), "*: crash")} == {"crash"}
    assert {unit.setup.product for unit in units(setups(FASTEST), "ucarp")} == {Product.UCARP}
    assert units(setups(FASTEST), "no such") == []


def test_only_what_is_missing_is_run_round_by_round() -> None:
    ours, *_ = setups(FASTEST)
    crash, stop = Unit(ours, "crash"), Unit(ours, "planned stop")
    book = Book(outcomes=[outcome(ours, Fault.CRASH), outcome(ours, Fault.CRASH, version=6)])
    assert missing(book, [crash, stop], runs=2, shuffle=unchanged) == [stop, crash, stop]
    book.outcomes += [outcome(ours, Fault.CRASH)] + [outcome(ours, Fault.STOP)] * 5
    assert missing(book, [crash, stop], runs=2, shuffle=unchanged) == []


def test_runs_with_other_settings_do_not_count() -> None:
    ours, *_ = setups(FASTEST)
    slower = replace(ours, speed=replace(ours.speed, name="slower"))
    book = Book(outcomes=[outcome(slower, Fault.CRASH)])
    assert missing(book, [Unit(ours, "crash")], runs=1, shuffle=unchanged) == [Unit(ours, "crash")]


def test_costs_are_measured_a_few_times() -> None:
    ours, *_ = setups(FASTEST)
    assert len(missing(Book(), [Unit(ours, COST)], runs=10, shuffle=unchanged)) == COST_RUNS
    assert len(missing(Book(costs=[cost(ours)]), [Unit(ours, COST)], runs=10, shuffle=unchanged)) == COST_RUNS - 1


def test_a_book_grows_with_each_run_and_is_found_again(tmp_path: Path) -> None:
    ours, *_ = setups(FASTEST)
    shelf = Shelf(tmp_path / "benchmarks" / "failover.json")
    shelf.remember(FASTEST)
    shelf.add(outcomes=[outcome(ours, Fault.CRASH)])
    shelf.add(costs=[cost(ours)])
    again = Shelf(tmp_path / "benchmarks" / "failover.json").book
    assert again.fastest == FASTEST
    assert again.outcomes == [outcome(ours, Fault.CRASH)]
    assert again.costs == [cost(ours)]
    assert again.machine is not None
