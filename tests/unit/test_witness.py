"""What the fault matrix judges by (tests/netns/witness.py): a judge that sees nothing acquits everybody."""

from __future__ import annotations

from sidecar.demo.answers import Answer, Answers
from tests.netns.witness import Event, doubles, events, order, shared, taken_for, unanswered

PRINTED = """\
[2026-01-02T03:04:05.344412] [nsid 1]2: eth0    inet 10.77.0.100/32 scope global dynamic eth0\\       valid_lft 2sec
[2026-01-02T03:04:05.347777] [nsid 2]7: eth0    inet6 fd77::100/128 scope global nodad \\       valid_lft forever
[2026-01-02T03:04:05.356468] [nsid 1]Deleted 2: eth0    inet 10.77.0.100/32 scope global eth0\\       valid_lft 2sec
[2026-01-02T03:04:05.356469] Deleted 2: eth0    inet 10.77.0.100/32 scope global eth0\\       valid_lft 2sec
"""


def answers(*answered: tuple[int, str]) -> Answers:
    received = tuple(Answer(float(probe), probe, f"node-{node}") for probe, node in answered)
    return Answers(interval=1.0, sent=tuple(map(float, range(100))), received=received, taken_at=100.0)


def test_events_are_read_with_their_node_and_in_their_order() -> None:
    assert events(PRINTED) == [
        Event("node-1", "10.77.0.100", bound=True),
        Event("node-2", "fd77::100", bound=True),
        Event("node-1", "10.77.0.100", bound=False),
    ]


def test_an_address_is_shared_from_the_second_holder_to_the_end_of_the_first() -> None:
    first, second = (Event(f"node-{number}", "a", bound=True) for number in (1, 2))
    gone = Event("node-1", "a", bound=False)
    assert shared([first, first, gone, second]) == []
    assert shared([first, second, first, gone, second]) == [1, 2]
    assert shared([first, Event("node-2", "b", bound=True)]) == []


def test_the_order_is_that_of_the_probes_from_the_first_one_on() -> None:
    seen = answers((5, "2"), (3, "1"), (4, "1"), (9, "1"))
    assert order(seen) == ["node-1", "node-2", "node-1"]
    assert order(seen, 5) == ["node-2", "node-1"]


def test_only_the_same_probe_answered_by_two_counts_as_double() -> None:
    seen = answers((1, "1"), (1, "1"), (2, "1"), (2, "2"), (3, "2"))
    assert doubles(seen) == [2]
    assert doubles(seen, 3) == []


def test_who_is_taken_for_another_is_neither_beside_it_nor_before_it() -> None:
    seen = taken_for(answers((1, "1"), (2, "1"), (2, "3"), (3, "3"), (4, "3"), (4, "2")), "node-3", "node-2")
    assert order(seen) == ["node-1", "node-2"]
    assert doubles(seen) == [2]


def test_unanswered_is_what_lies_before_the_last_answer() -> None:
    assert unanswered(answers((1, "1"), (4, "1"), (4, "2"), (7, "1"))) == 5
    assert unanswered(answers((1, "1"), (4, "1"), (7, "1")), 3) == 3
    assert unanswered(answers((1, "1")), 3) == 0
