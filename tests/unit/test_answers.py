import math

import pytest

from sidecar.demo.answers import Answer, Answers

INTERVAL = 0.01


def made(pattern: str, *, latency: float = 0.001, judged: bool = True) -> Answers:
    """One probe each 10 ms from 0 on: a digit is the node that answers, ``2`` both, ``-`` nobody."""
    sent = tuple(index * INTERVAL for index in range(len(pattern)))
    received = [
        Answer(sent[index] + latency, index, node)
        for index, letter in enumerate(pattern)
        for node in {"-": (), "2": ("node-0", "node-1")}.get(letter, (f"node-{letter}",))
    ]
    taken_at = sent[-1] + (1.0 if judged else 0.0)
    return Answers(interval=INTERVAL, sent=sent, received=tuple(received), taken_at=taken_at)


def spans(answers: Answers, since: float = -math.inf, until: float = math.inf) -> list[tuple[float, float, int]]:
    return [(round(o.start, 6), round(o.end, 6), o.lost) for o in answers.outages(since, until)]


def test_no_outage_where_every_probe_is_answered() -> None:
    assert spans(made("0000")) == []


def test_an_outage_lasts_from_the_last_answer_to_the_next_one() -> None:
    answers = made("00--11")
    assert spans(answers) == [(0.011, 0.041, 2)]
    assert answers.outages()[0].seconds == pytest.approx(0.030)


def test_each_run_of_lost_probes_is_an_outage() -> None:
    assert spans(made("0-0--1-")) == [(0.001, 0.021, 1), (0.021, 0.051, 2), (0.051, 1.06, 1)]


def test_an_outage_before_the_first_answer_starts_with_the_first_probe() -> None:
    assert spans(made("--00")) == [(0.0, 0.021, 2)]


def test_an_outage_that_lasts_ends_when_the_answers_were_taken() -> None:
    assert spans(made("00--")) == [(0.011, 1.03, 2)]


def test_outages_are_told_for_a_time_if_they_touch_it() -> None:
    answers = made("0-0000-000")
    assert spans(answers, since=0.03) == [(0.051, 0.071, 1)]
    assert spans(answers, until=0.03) == [(0.001, 0.021, 1)]
    assert spans(answers, since=0.015, until=0.06) == spans(answers)


def test_a_probe_is_not_lost_before_its_patience_is_over() -> None:
    assert spans(made("00--", judged=False)) == []


def test_an_answer_that_comes_too_late_does_not_count() -> None:
    answers = Answers(
        interval=INTERVAL,
        sent=(0.0, 0.01, 0.02),
        received=(Answer(0.001, 0, "a"), Answer(0.5, 1, "a"), Answer(0.6, 2, "a")),
        taken_at=1.0,
    )
    assert spans(answers) == [(0.001, 1.0, 2)]


def test_probes_that_a_cache_held_back_do_not_split_an_outage() -> None:
    answers = Answers(
        interval=INTERVAL,
        sent=(0.0, 0.01, 0.02, 0.03, 0.04),
        received=(Answer(0.001, 0, "a"), Answer(0.035, 2, "a"), Answer(0.041, 4, "a")),
        taken_at=1.0,
    )
    assert spans(answers) == [(0.001, 0.041, 2)]


def test_a_prober_that_was_starved_saw_no_outage() -> None:
    answers = Answers(
        interval=INTERVAL, sent=(0.0, 5.0), received=(Answer(0.001, 0, "a"), Answer(5.001, 1, "a")), taken_at=6.0
    )
    assert spans(answers) == []
    assert answers.longest_gap(0.0, 5.001) == pytest.approx(5.0)


def test_answers_may_come_out_of_order() -> None:
    answers = Answers(
        interval=INTERVAL,
        sent=(0.0, 0.01, 0.02),
        received=(Answer(0.021, 2, "a"), Answer(0.015, 1, "a"), Answer(0.012, 0, "a")),
        taken_at=1.0,
    )
    assert spans(answers) == []
    assert answers.longest_gap(0.012, 0.021) == pytest.approx(0.006)


def test_the_longest_gap_counts_from_the_edges_of_the_time() -> None:
    answers = made("00-0")
    assert answers.longest_gap(0.0, 0.031) == pytest.approx(0.020)
    assert answers.longest_gap(0.031, 0.5) == pytest.approx(0.469)
    assert made("--").longest_gap(1.0, 3.0) == pytest.approx(2.0)


def test_who_answered_in_a_time() -> None:
    answers = made("00-11")
    assert answers.answerers(0.0, 0.02) == {"node-0"}
    assert answers.answerers(0.0, 1.0) == {"node-0", "node-1"}
    assert answers.answerers(0.015, 0.025) == frozenset()


def test_overlap_is_the_time_in_which_two_nodes_answer_the_same_probe() -> None:
    assert made("00221").overlap() == pytest.approx(2 * INTERVAL)
    assert made("0011").overlap() == 0.0


def test_one_node_that_answers_twice_is_no_overlap() -> None:
    answers = Answers(
        interval=INTERVAL, sent=(0.0,), received=(Answer(0.001, 0, "a"), Answer(0.002, 0, "a")), taken_at=1.0
    )
    assert answers.overlap() == 0.0


def test_nothing_asked_nothing_seen() -> None:
    answers = Answers(interval=INTERVAL, sent=(), received=(), taken_at=-math.inf)
    assert answers.outages() == ()
    assert answers.overlap() == 0.0


def test_overlap_can_be_told_for_a_time() -> None:
    answers = made("022221")
    assert answers.overlap(0.02, 0.035) == pytest.approx(2 * INTERVAL)
    assert answers.overlap(0.05) == 0.0


def test_since_when_a_node_alone_has_answered() -> None:
    answers = made("00110-0")
    assert answers.since_when("node-0") == pytest.approx(0.041)
    assert answers.since_when("node-1") is None
    assert made("--").since_when("node-0") is None
