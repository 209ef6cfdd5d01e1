"""What is made of the observer's probes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.failover.figures import answered_by, last_answer, outage, pause, quantile, takeover, two_answered
from bench.failover.observer import Seen

FIRST, OTHER = 61, 62


def seen(*, client: str, everybody: str = "") -> Seen:
    """A probe a second from 0 on; a letter says who answers: f(irst), o(ther), b(oth), or nobody."""
    who = {"f": [FIRST], "o": [OTHER], "b": [FIRST, OTHER], ".": []}

    def answers(text: str) -> list[tuple[int, int]]:
        return [(probe, ttl) for probe, letter in enumerate(text) for ttl in who[letter]]

    return Seen(
        version=4,
        client_sent=[float(number) for number in range(len(client))],
        client_answers=answers(client),
        all_sent=[float(number) for number in range(len(everybody))],
        all_answers=answers(everybody),
    )


def test_an_outage_is_the_time_of_all_probes_that_nobody_answered() -> None:
    run = seen(client="ff...o.oo")
    assert outage(run, 0.0, 9.0) == 4.0
    assert outage(run, 3.0, 5.5) == 2.0
    assert outage(run, 2.0, 2.5) == 0.5, "the time that was looked at ends before the next probe"
    assert outage(seen(client=""), 0.0, 9.0) == 0.0


def test_two_answered_where_the_same_probe_has_two_answers() -> None:
    run = seen(client="", everybody="ffbbo")
    assert two_answered(run, 0.0, 5.0) == 2.0
    assert two_answered(run, 3.0, 5.0) == 1.0
    run.all_answers.append((0, FIRST))
    assert two_answered(run, 0.0, 1.0) == 0.0, "the same node twice is one node"


def test_a_takeover_is_the_first_answer_of_the_heir_whoever_else_answers() -> None:
    run = seen(client="fffffoo", everybody="fffbbbb")
    assert takeover(run, 1.0, ttl=OTHER) == 2.0
    assert takeover(run, 4.5, ttl=OTHER) == 0.5
    assert takeover(run, 0.0, ttl=99) is None


def test_a_node_that_was_cut_off_answers_until_it_is() -> None:
    run = seen(client="ffff..oof", everybody="fffff")
    assert last_answer(run, 1.0, 8.0, ttl=FIRST) == 4.0
    assert last_answer(run, 1.0, 9.0, ttl=FIRST) == 8.0
    assert last_answer(run, 5.0, 8.0, ttl=FIRST) == 5.0


def test_who_answered_since_then() -> None:
    run = seen(client="f.oo", everybody="fff")
    assert answered_by(run, 0.0) == {FIRST, OTHER}
    assert answered_by(run, 3.0) == {OTHER}


def test_the_observers_own_pause_is_told() -> None:
    run = seen(client="ff")
    run.client_sent = [0.0, 1.0, 5.0, 6.0]
    assert pause(run, 0.0, 7.0) == 4.0
    assert pause(run, 5.5, 7.0) == float("inf")


def test_quantiles_lie_between_two_values_in_proportion() -> None:
    assert quantile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert quantile([0.0, 1.0], 0.95) == pytest.approx(0.95)
    with pytest.raises(ValueError, match="no values"):
        quantile([], 0.5)


@given(values=st.lists(st.floats(0, 100), min_size=1), share=st.floats(0, 1))
def test_a_quantile_is_within_the_values(values: list[float], share: float) -> None:
    assert min(values) - 1e-9 <= quantile(values, share) <= max(values) + 1e-9
