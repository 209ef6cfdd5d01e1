"""The ledger of demotions: what is taken is given back, and how the sum travels."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.protocol.demotion import Demotions

NAMES = st.sampled_from(("link:eth0", "maintenance", "health:web"))


def test_each_source_takes_once() -> None:
    ledger = Demotions()
    ledger.take("maintenance", weight=240, detail="first")
    ledger.take("maintenance", weight=100, detail="second")
    assert [(each.name, each.weight, each.detail) for each in ledger.standing()] == [("maintenance", 100, "second")]
    ledger.give_back("maintenance")
    ledger.give_back("maintenance")
    assert (ledger.standing(), ledger.on_wire) == ((), 0)


@given(st.lists(st.tuples(NAMES, st.one_of(st.none(), st.integers(1, 300)))))
def test_the_sum_is_always_that_of_what_stands(steps: list[tuple[str, int | None]]) -> None:
    ledger = Demotions()
    stands: dict[str, int] = {}
    for name, weight in steps:
        if weight is None:
            ledger.give_back(name)
            stands.pop(name, None)
        else:
            ledger.take(name, weight=weight, detail="")
            stands[name] = weight
    assert {each.name: each.weight for each in ledger.standing()} == stands
    assert ledger.on_wire == min(255, sum(stands.values()))
    for name in stands:
        ledger.give_back(name)
    assert ledger.on_wire == 0


@pytest.mark.parametrize(
    ("configured", "weight", "advertised"), [(0, 0, 0), (0, 1, 1), (100, 240, 240), (239, 5, 240), (250, 240, 250)]
)
def test_the_sum_raises_advskew_up_to_240(configured: int, weight: int, advertised: int) -> None:
    ledger = Demotions()
    if weight:
        ledger.take("x", weight=weight, detail="")
    assert ledger.advskew(configured) == advertised


def test_nothing_cannot_be_taken() -> None:
    with pytest.raises(ValueError, match="'x' has weight 0"):
        Demotions().take("x", weight=0, detail="")


def test_what_is_taken_from_a_backup_alone_counts_in_no_other_role() -> None:
    ledger = Demotions()
    ledger.take("maintenance", weight=7, detail="")
    ledger.take("stand-aside", weight=240, detail="", as_backup=True, until=10.0)
    assert (ledger.on_wire, [each.name for each in ledger.standing()]) == (7, ["maintenance"])
    ledger.backup = True
    assert (ledger.on_wire, [each.name for each in ledger.standing()]) == (247, ["maintenance", "stand-aside"])
    ledger.backup = False
    ledger.expire(10.0)
    ledger.backup = True
    assert ledger.on_wire == 7
