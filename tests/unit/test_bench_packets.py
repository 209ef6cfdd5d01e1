"""The benchmark of single adverts runs, and accounts for all that it measures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bench.packets import KINDS, Cost, Kind, received, sent


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("measure", [received, sent])
def test_each_kind_of_advert_is_measured_part_by_part(kind: Kind, measure: Callable[..., Cost]) -> None:
    cost: Any = measure(kind, adverts=20, runs=3)
    assert cost.kind == str(kind)
    assert list(cost.parts)[-1] == "the rest"
    assert sum(cost.parts.values()) == pytest.approx(cost.total)
    assert all(value > 0 for name, value in cost.parts.items() if name != "the rest")
