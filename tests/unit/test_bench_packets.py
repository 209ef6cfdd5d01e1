"""The benchmark of single adverts runs, and accounts for all that it measures."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator

import pytest

from bench.packets import KINDS, Cost, received, sent


@pytest.fixture(autouse=True)
def small_heap() -> Iterator[None]:
    """Leave out what all other tests have made: the benchmark collects garbage before each of its parts."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.parametrize("measure", [received, sent])
def test_each_kind_of_advert_is_measured_part_by_part(measure: Callable[..., tuple[Cost, ...]]) -> None:
    costs = measure(adverts=70, runs=1)  # more than a minute of them, after which a master announces again
    assert [cost.kind for cost in costs] == [str(kind) for kind in KINDS]
    for cost in costs:
        assert list(cost.parts)[-1] == "the rest"
        assert sum(cost.parts.values()) == pytest.approx(cost.total)
        assert all(value > 0 for name, value in cost.parts.items() if name != "the rest")
