"""Tests that mostly wait, all at once: each case runs on a thread of its own, and each test asks for one outcome."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, TypeVar

import pytest

Outcomes = dict[str, "Future[None]"]


class Case(Protocol):
    @property
    def name(self) -> str: ...


C = TypeVar("C", bound=Case)


@contextlib.contextmanager
def side_by_side(
    request: pytest.FixtureRequest,
    cases: Sequence[C],
    run: Callable[[C, Path], None],
    *,
    directory: Path,
    at_once: int,
) -> Iterator[Outcomes]:
    """Start the cases that this session's tests ask for by their parameter ``case``; give the futures by name.

    ``run`` gets a case and a directory of its own; ``at_once`` is how many of them the machine has time for.
    """
    wanted = {
        item.callspec.params["case"].name
        for item in request.session.items
        if item.path == request.path
        and isinstance(item, pytest.Function)
        and hasattr(item, "callspec")
        and "case" in item.callspec.params
    }

    def start(number: int, case: C) -> None:
        place = directory / str(number)  # a short name: a Unix socket has to fit
        place.mkdir()
        run(case, place)

    with ThreadPoolExecutor(at_once, thread_name_prefix="case") as pool:
        chosen = [(number, case) for number, case in enumerate(cases) if case.name in wanted]
        try:
            yield {case.name: pool.submit(start, number, case) for number, case in chosen}
        finally:
            pool.shutdown(cancel_futures=True)
