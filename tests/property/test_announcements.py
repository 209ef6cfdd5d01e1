"""A client that goes by announcements alone ends at the master, however the VIPs have come there, and in time.

It has Linux's ``locktime``. What a master does for it is in ``protocol.machine``; here, each of that is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from hypothesis import assume, given
from hypothesis import strategies as st

from sidecar.protocol import events
from sidecar.protocol.mastership import ANNOUNCE_COUNT, ANNOUNCE_REFRESH, ANNOUNCE_SPACING
from tests.fakes.client import Client
from tests.fakes.faults import Crash, Deaf, Heal, NewMac, Partition
from tests.fakes.host import Node
from tests.fakes.lan import Lan
from tests.fakes.watchers import interval, moment, rank
from tests.property.strategies import calm_lans, examples

NUMBERS = st.integers(0, 59)  # of any of 2 to 5 nodes


def client_of(lan: Lan, node: Node) -> Client:
    """Return a client on that node's side who has known the master for long."""
    (master,) = lan.masters()
    client = Client(node.number, master.mac)
    lan.clients.append(client)
    return client


def right_since(lan: Lan, client: Client) -> Callable[[], float]:
    """Watch the client from now on; the answer is since when it has gone to the only master."""
    wrong_at = lan.now

    def watch() -> None:
        nonlocal wrong_at
        if [client.mac] != [node.mac for node in lan.masters()]:
            wrong_at = lan.now

    lan.watchers.append(watch)
    return lambda: wrong_at


def another(lan: Lan, node: Node, number: int) -> Node:
    others = [each for each in lan.nodes if each is not node]
    return others[number % len(others)]


@examples(60)
@given(calm_lans(), NUMBERS)
def test_a_takeover_takes_the_client_along(lan: Lan, number: int) -> None:
    (old,) = lan.masters()
    client = client_of(lan, another(lan, old, number))
    right = right_since(lan, client)
    lan.inject(Crash(old.number))
    lan.run(10)
    (new,) = lan.masters()
    alone = max(change.at for change in lan.history)
    first = next(change.at for change in lan.history if change.node == new.number and change.at > lan.now - 10)
    assert right() <= (first + 2 * moment(lan) if alone == first else alone + ANNOUNCE_SPACING + 2 * moment(lan))


@examples(60)
@given(calm_lans(), NUMBERS, st.floats(0, (ANNOUNCE_COUNT - 1) * ANNOUNCE_SPACING - 0.1))
def test_announcements_that_were_lost_are_made_up_for_by_the_next(lan: Lan, number: int, seconds: float) -> None:
    (old,) = lan.masters()
    client = client_of(lan, another(lan, old, number))
    client.listens = False
    lan.inject(Crash(old.number))
    while not lan.masters():
        lan.run(0.01)
    right = right_since(lan, client)
    lan.run(seconds)
    client.listens = True
    lan.run(5)
    assert len(lan.masters()) == 1
    assert right() <= lan.now - 5 + ANNOUNCE_SPACING + 2 * moment(lan) + 0.01


@examples(30)
@given(calm_lans(), NUMBERS, st.floats(0, 10))
def test_a_client_that_has_forgotten_is_told_again(lan: Lan, number: int, later: float) -> None:
    lan.run(later)
    client = client_of(lan, lan.nodes[number % len(lan.nodes)])
    client.mac = None
    lan.run(ANNOUNCE_REFRESH + moment(lan))
    assert [client.mac] == [node.mac for node in lan.masters()]


@examples(60)
@given(calm_lans(), NUMBERS)
def test_another_mac_of_the_master_is_told_at_once(lan: Lan, number: int) -> None:
    (master,) = lan.masters()
    client = client_of(lan, lan.nodes[number % len(lan.nodes)])
    lan.inject(NewMac(master.number))
    lan.run(moment(lan))
    assert client.mac == master.mac == (master.number, 1)


@examples(60)
@given(calm_lans(), NUMBERS, st.floats(0, 8), st.booleans())
def test_a_client_of_either_side_goes_to_whoever_stays_when_a_partition_heals(
    lan: Lan, number: int, seconds: float, sealed: bool
) -> None:
    """Also where the better one is heard first, so that the other yields before it was ever heard."""
    lan.conditions = replace(lan.conditions, sealed=sealed)
    client = client_of(lan, lan.nodes[number % len(lan.nodes)])
    better = partition(lan, seconds)
    check_heals(lan, client, better)


@examples(60)
@given(calm_lans(), NUMBERS, st.floats(0, 8))
def test_so_it_does_where_the_one_that_stays_never_hears_the_other_master(
    lan: Lan, number: int, seconds: float
) -> None:
    """Multicast is broken in that direction; what arrives is the other one's word, once his kernel has let go."""
    client = client_of(lan, lan.nodes[number % len(lan.nodes)])
    better = partition(lan, seconds)

    def listen(node: Node, event: events.Event, _: object) -> None:
        assert node is not better or not isinstance(event, events.AdvertReceived) or event.let_go

    lan.listeners.append(listen)
    check_heals(lan, client, better, *(Deaf(node.number, better.number) for node in lan.nodes))


def partition(lan: Lan, seconds: float) -> Node:
    """Cut the master off until another one has stood up ``seconds`` ago; return the one of the two that will stay."""
    (old,) = lan.masters()
    lan.inject(Partition(frozenset({old.number})))
    while lan.masters() == [old]:
        lan.run(0.01)
    lan.run(2 * moment(lan) + seconds)
    (new,) = (node for node in lan.masters() if node is not old)
    assume(rank(old) != rank(new))  # which of two addresses counts, they may have to find out
    return min(old, new, key=rank)


def check_heals(lan: Lan, client: Client, better: Node, *faults: Deaf) -> None:
    """Heal all but ``faults``: the client goes to the better one after an interval and a repetition at most."""
    others = [node for node in lan.masters() if node is not better]
    lan.inject(Heal())
    for fault in faults:
        lan.inject(fault)
    healed = lan.now
    right = right_since(lan, client)
    lan.run(10)
    assert lan.masters() == [better]
    assert right() - healed <= max(map(interval, [better, *others])) + ANNOUNCE_SPACING + 3 * moment(lan)
