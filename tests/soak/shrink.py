"""From a case that fails to a smaller one that still does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from tests.soak.cases import Case

TRIES = 3000


def shrink(case: Case, fails: Callable[[Case], bool]) -> Case:
    """Leave out what is not needed: parts of the story, then interruptions, nodes, and uneven times."""
    tries = 0
    again = True
    while again and tries < TRIES:
        again = False
        for smaller in _smaller(case):
            tries += 1
            if fails(smaller):
                case, again = smaller, True
                break
    return case


def _smaller(case: Case) -> Iterator[Case]:
    length = len(case.story)
    size = length
    while size:
        for start in range(0, length, size):
            gap = sum(gap for gap, _ in case.story[start : start + size])
            rest = case.story[start + size :]
            if rest:
                yield replace(case, story=(*case.story[:start], (gap + rest[0][0], rest[0][1]), *rest[1:]))
            yield replace(case, story=case.story[:start] + rest)
        size //= 2
    for step in case.interruptions:
        yield replace(case, interruptions={each: f for each, f in case.interruptions.items() if each != step})
    if len(case.configs) > 2:
        yield replace(case, configs=case.configs[:-1])
    if case.conditions.duplication:
        yield replace(case, conditions=replace(case.conditions, duplication=0.0))
    for number, config in enumerate(case.configs):
        plain = replace(config, second_source=None, startup_delay=0.0, preempt_delay=0.0)
        if plain != config:
            yield replace(case, configs=(*case.configs[:number], plain, *case.configs[number + 1 :]))
    for number, (gap, fault) in enumerate(case.story):
        if round(gap, 1) != gap:
            yield replace(case, story=(*case.story[:number], (round(gap, 1), fault), *case.story[number + 1 :]))
