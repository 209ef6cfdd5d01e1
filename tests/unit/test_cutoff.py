"""Leases in milliseconds: what a real kernel answers while they run and after, and what is told when it refuses."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from typing import TypeVar

import pytest

from sidecar.net import nft
from sidecar.net.cutoff import Cutoff, CutoffError, CutoffLostError, tick_ms
from sidecar.net.neighbor import announcements
from sidecar.net.nft import Batch, Message, Nft, NftError
from sidecar.protocol.types import IPAddress
from tests.fakes.namespace import in_new_network, ip
from tests.fakes.neighbour import ASKER, FAR_MAC, KINDS, Neighbour, datagram

T = TypeVar("T")
VIPS: dict[int, IPAddress] = {4: IPv4Address("10.0.0.200"), 6: IPv6Address("fd00::200")}
BOTH = tuple(VIPS.values())
LONG = 600_000
real = [pytest.mark.netns, pytest.mark.usefixtures("real_kernel")]


def with_neighbour(scene: Callable[[Neighbour, Cutoff], T]) -> T:
    """Return what ``scene`` makes of a node to which both VIPs are bound, and a cut-off without a table."""

    def run() -> T:
        with contextlib.closing(Neighbour()) as neighbour, Cutoff("test") as cutoff:
            for vip in BOTH:
                neighbour.bind(vip, vip.max_prefixlen)
            return scene(neighbour, cutoff)

    return in_new_network(run)


def answers(neighbour: Neighbour) -> set[tuple[str, int]]:
    """Return in which ways the node answers for its VIPs."""
    return {(kind, version) for kind, version in KINDS if neighbour.answered(kind, VIPS[version])}


ALL, NOTHING = set(KINDS), set[tuple[str, int]]()
BY_VERSION = {version: {kind for kind in KINDS if kind[1] == version} for version in VIPS}


def until_expired(cutoff: Cutoff) -> None:
    give_up = time.monotonic() + 60
    while cutoff.remaining(BOTH):
        assert time.monotonic() < give_up, "the lease does not end"
        time.sleep(0.002)


def rules(command: str = "list ruleset") -> str:
    return subprocess.run(["nft", *command.split()], check=True, capture_output=True, text=True).stdout


def expiries() -> dict[tuple[str, str], int]:
    """Return the seconds left to each element, by the names of its set and of itself."""
    sets = [item["set"] for item in json.loads(rules("--json list ruleset"))["nftables"] if "set" in item]
    return {
        (each["name"], element["elem"]["val"]): element["elem"]["expires"]
        for each in sets
        for element in each.get("elem", [])
    }


def load(text: str) -> None:
    subprocess.run(["nft", "-f", "-"], check=True, input=text, text=True)


POWERLESS = """
from sidecar import privileges
from sidecar.net.cutoff import Cutoff, CutoffError
privileges.drop(change_user=False)
with Cutoff() as cutoff:
    print(cutoff.available())
    try:
        cutoff.install([])
    except CutoffError as error:
        print(error)
"""


class TestAnswers:
    pytestmark = real

    def test_a_vip_answers_while_its_lease_runs_and_not_before_nor_after(self) -> None:
        def scene(neighbour: Neighbour, cutoff: Cutoff) -> None:
            assert answers(neighbour) == ALL
            cutoff.install(BOTH)
            assert answers(neighbour) == NOTHING
            cutoff.renew(BOTH, LONG)
            assert answers(neighbour) == ALL
            cutoff.renew(BOTH, 20)
            until_expired(cutoff)
            assert answers(neighbour) == NOTHING
            cutoff.renew(BOTH, LONG)  # an expired one comes back
            assert answers(neighbour) == ALL

        with_neighbour(scene)

    def test_a_renewal_counts_from_itself_and_may_also_shorten(self) -> None:
        def scene(neighbour: Neighbour, cutoff: Cutoff) -> None:
            cutoff.install(BOTH)
            cutoff.renew(BOTH, 100)
            cutoff.renew(BOTH, LONG)
            time.sleep(0.15)  # past the end of the first
            assert answers(neighbour) == ALL
            assert all(100 < left <= LONG for left in cutoff.remaining(BOTH).values())
            cutoff.renew(BOTH, 50)
            until_expired(cutoff)
            assert answers(neighbour) == NOTHING

        with_neighbour(scene)

    def test_the_same_renewal_counts_each_time(self) -> None:
        def scene(_: Neighbour, cutoff: Cutoff) -> bool:
            def counts() -> bool:
                time.sleep(0.02)
                before = cutoff.remaining(BOTH)
                cutoff.renew(BOTH, LONG)
                after = cutoff.remaining(BOTH)
                return all(after[vip] > before[vip] for vip in BOTH)

            cutoff.install(BOTH)
            cutoff.renew(BOTH, LONG)
            return any(counts() for _ in range(50))  # unless the machine was away just before ``after``

        assert with_neighbour(scene)

    def test_a_release_works_at_once_and_for_nobody_else(self) -> None:
        def scene(neighbour: Neighbour, cutoff: Cutoff) -> None:
            cutoff.install(BOTH)
            for version, vip in VIPS.items():
                cutoff.renew(BOTH, LONG)
                cutoff.release([vip])
                assert answers(neighbour) == ALL - BY_VERSION[version]
                cutoff.release([vip])  # what is not live needs no release
                assert list(cutoff.remaining(BOTH)) == [other for other in BOTH if other != vip]

        with_neighbour(scene)

    def test_leases_of_groups_end_each_by_itself(self) -> None:
        def scene(neighbour: Neighbour, cutoff: Cutoff) -> None:
            cutoff.install(BOTH)
            cutoff.renew([VIPS[4]], LONG)
            cutoff.renew([VIPS[6]], 20)
            while VIPS[6] in cutoff.remaining(BOTH):
                time.sleep(0.002)
            assert answers(neighbour) == BY_VERSION[4]

        with_neighbour(scene)

    @pytest.mark.parametrize(("version", "family"), [(4, socket.AF_INET), (6, socket.AF_INET6)])
    def test_packets_neither_come_in_nor_go_out(self, version: int, family: int) -> None:
        def scene(neighbour: Neighbour, cutoff: Cutoff) -> None:
            with socket.socket(family, socket.SOCK_DGRAM) as there:
                there.setblocking(False)
                there.bind((str(VIPS[version]), 5000))
                to, said = (str(ASKER[version]), 5000), (f"ipv{version}", VIPS[version])
                cutoff.install(BOTH)
                with pytest.raises(PermissionError):
                    there.sendto(b"", to)
                assert said not in neighbour.heard()
                neighbour.wire.send(datagram(VIPS[version], 5000))
                neighbour.heard()  # by now it would have come
                with pytest.raises(BlockingIOError):
                    there.recv(1)
                cutoff.renew(BOTH, LONG)
                there.sendto(b"", to)
                assert said in neighbour.heard()
                neighbour.wire.send(datagram(VIPS[version], 5000))
                neighbour.heard()
                assert there.recv(1) == b""

        with_neighbour(scene)

    def test_a_silent_node_hears_who_has_the_vip_now(self) -> None:
        def scene(neighbour: Neighbour, cutoff: Cutoff) -> None:
            cutoff.install(BOTH)
            for vip in BOTH:
                ip(f"address delete {vip}/{vip.max_prefixlen} dev near")
                ip(f"neighbour add {vip} lladdr 02:00:00:00:00:99 dev near nud stale")
                for frame in announcements(mac=FAR_MAC, address=vip):
                    neighbour.wire.send(frame)
            neighbour.heard()
            table = ip("neighbour show dev near")
            for vip in BOTH:
                assert f"{vip} lladdr {FAR_MAC.hex(':')}" in table

        with_neighbour(scene)

    def test_a_vip_that_is_not_managed_is_nobodys_business(self) -> None:
        def scene(neighbour: Neighbour, cutoff: Cutoff) -> None:
            cutoff.install([IPv4Address("10.0.0.201")])
            assert answers(neighbour) == ALL
            cutoff.install([VIPS[6]])
            assert answers(neighbour) == BY_VERSION[4]

        with_neighbour(scene)

    def test_a_release_silences_what_was_not_managed_any_more(self) -> None:
        """A VIP is managed for half a minute beyond its lease, and comes back later with its address alone."""

        def scene(neighbour: Neighbour, cutoff: Cutoff) -> None:
            cutoff.install([IPv4Address("10.0.0.201")])
            cutoff.release(BOTH)
            assert answers(neighbour) == NOTHING

        with_neighbour(scene)


class TestTable:
    pytestmark = real

    def test_what_an_earlier_life_left_is_replaced(self) -> None:
        def scene(neighbour: Neighbour, cutoff: Cutoff) -> None:
            with Cutoff("test") as earlier:
                earlier.install(BOTH)
                earlier.renew(BOTH, LONG)
            left = cutoff.remaining(BOTH)
            assert set(left) == set(BOTH)
            cutoff.install(BOTH)
            assert (answers(neighbour), cutoff.remaining(BOTH)) == (NOTHING, {})
            cutoff.install(BOTH, live=left)
            assert (answers(neighbour), set(cutoff.remaining(BOTH))) == (ALL, set(BOTH))
            cutoff.install(BOTH, live={VIPS[4]: LONG, VIPS[6]: 0})  # which is at its end
            assert answers(neighbour) == BY_VERSION[4]
            cutoff.install([VIPS[4]])
            assert answers(neighbour) == BY_VERSION[6]

        with_neighbour(scene)

    def test_two_sidecars_on_a_node_do_not_meet(self) -> None:
        def scene(neighbour: Neighbour, cutoff: Cutoff) -> None:
            with Cutoff("other") as other:
                cutoff.install([VIPS[4]])
                other.install([VIPS[6]])
                assert answers(neighbour) == NOTHING
                other.renew([VIPS[6]], LONG)
                assert answers(neighbour) == BY_VERSION[6]
                cutoff.remove()
                assert answers(neighbour) == ALL
                assert list(other.remaining(BOTH)) == [VIPS[6]]

        with_neighbour(scene)

    def test_a_table_of_another_name_that_would_silence_our_vips_is_swept_and_no_other(self) -> None:
        def scene(_: Neighbour, cutoff: Cutoff) -> list[str]:
            with Cutoff("earlier") as earlier, Cutoff("another") as another, Cutoff() as nameless:
                earlier.install([*BOTH, IPv4Address("10.0.0.77")])
                another.install([IPv4Address("10.0.0.77")])
                nameless.install(BOTH)
                cutoff.install(BOTH)
            load("table inet carp-sidecar-of-others {\n set s {\n type ipv4_addr\n elements = { 10.0.0.200 }\n }\n }\n")
            swept = cutoff.sweep(BOTH)
            listed = rules("list tables").splitlines()
            assert sorted(listed) == sorted(
                [f"table {family} carp-sidecar-{name}" for family in ("arp", "inet") for name in ("another", "test")]
                + ["table inet carp-sidecar-of-others"]
            )
            return swept

        assert sorted(with_neighbour(scene)) == ["carp-sidecar", "carp-sidecar-earlier"]

    def test_tables_of_others_stay_as_they_are(self) -> None:
        foreign = """
            add table ip filter
            add chain ip filter INPUT { type filter hook input priority filter; policy accept; }
            add rule ip filter INPUT ip daddr 10.0.0.200 accept
            add table inet carp-sidecar-tes
            add set inet carp-sidecar-tes live4 { type ipv4_addr; elements = { 10.0.0.200 }; }
            add table arp carp-sidecar-test2
            add chain arp carp-sidecar-test2 output { type filter hook output priority filter; policy accept; }
            add table ip carp-sidecar-test
            add chain ip carp-sidecar-test output
        """

        def scene(_: Neighbour, cutoff: Cutoff) -> None:
            load(foreign)
            before = rules("--stateless list ruleset")
            cutoff.install(BOTH)
            cutoff.renew(BOTH, LONG)
            cutoff.release(BOTH)
            cutoff.install(BOTH)
            cutoff.remove()
            assert rules("--stateless list ruleset") == before
            cutoff.remove()  # there need not be one
            assert rules("--stateless list ruleset") == before

        with_neighbour(scene)

    def test_what_another_firewall_accepts_is_dropped_and_what_it_drops_is_not_accepted(self) -> None:
        def chain(table: str, priority: int, *statements: str) -> None:
            load(
                f"add table inet {table}\n"
                f"add chain inet {table} i {{ type filter hook input priority {priority}; policy accept; }}\n"
                + "".join(f"add rule inet {table} i {statement}\n" for statement in statements)
            )

        def scene(neighbour: Neighbour, cutoff: Cutoff) -> None:
            chain("first", -2000, "accept")
            chain("usual", -300, f"ip daddr {VIPS[4]} counter", f"ip6 daddr {VIPS[6]} counter")
            cutoff.install(BOTH)
            assert answers(neighbour) == NOTHING
            assert rules("list table inet usual").count("packets 0 bytes 0") == 2  # it comes after us
            cutoff.renew(BOTH, LONG)
            assert answers(neighbour) == ALL
            chain("last", 10, f"ip daddr {VIPS[4]} drop", f"ip6 daddr {VIPS[6]} drop")
            assert answers(neighbour) == {("arp", 4), ("nd", 6)}

        with_neighbour(scene)

    @pytest.mark.parametrize(
        "command",
        ["flush ruleset", "delete table arp carp-sidecar-test", "delete table inet carp-sidecar-test"],
    )
    def test_a_table_that_somebody_took_away_is_reported_until_it_is_installed_again(self, command: str) -> None:
        def scene(neighbour: Neighbour, cutoff: Cutoff) -> None:
            cutoff.install(BOTH)
            cutoff.renew(BOTH, LONG)
            rules(command)
            for action in (lambda: cutoff.renew(BOTH, LONG), lambda: cutoff.release(BOTH)) * 2:
                with pytest.raises(CutoffLostError, match=r"^nftables table carp-sidecar-test is not whole: no set "):
                    action()
            cutoff.install(BOTH)
            assert answers(neighbour) == NOTHING
            cutoff.renew(BOTH, LONG)
            assert answers(neighbour) == ALL

        with_neighbour(scene)

    def test_without_a_table_nothing_is_live(self) -> None:
        assert with_neighbour(lambda _, cutoff: cutoff.remaining(BOTH)) == {}

    def test_what_outlives_its_processes_lets_go_by_itself_what_is_live_first(self) -> None:
        def scene(_: Neighbour, cutoff: Cutoff) -> None:
            cutoff.install(BOTH)
            assert all(20 < each <= 30 for each in expiries().values())
            cutoff.install(BOTH, live={VIPS[4]: 100_000})
            cutoff.renew([VIPS[6]], 200_000)
            ends = expiries()
            for (name, vip), expires in ends.items():
                if name.startswith("live"):
                    assert expires + 20 < ends[name.replace("live", "managed"), vip] <= expires + 40
            assert {vip for name, vip in ends if name.startswith("live")} == {str(vip) for vip in BOTH}

        with_neighbour(scene)

    def test_expired_leases_are_swept_before_they_pile_up(self) -> None:
        def scene(_: Neighbour, cutoff: Cutoff) -> dict[str, int | None]:
            cutoff.install(BOTH)
            listed = json.loads(rules("--json list ruleset"))["nftables"]
            return {item["set"]["name"]: item["set"].get("gc-interval") for item in listed if "set" in item}

        assert {name for name, interval in with_neighbour(scene).items() if interval is not None} == {"live4", "live6"}

    def test_many_vips_are_one_batch(self) -> None:
        many = [IPv6Address((0xFD00 << 112) + number) for number in range(1, 2001)]

        def scene(_: Neighbour, cutoff: Cutoff) -> None:
            cutoff.install(many)
            cutoff.renew(many[:500], LONG)
            assert set(cutoff.remaining(many)) == set(many[:500])
            cutoff.renew([*BOTH, *BOTH], LONG)  # twice the same is once
            assert set(cutoff.remaining(BOTH)) == set(BOTH)

        with_neighbour(scene)


class TestAvailable:
    pytestmark = real

    def test_it_is_told_without_changing_anything(self) -> None:
        def scene(neighbour: Neighbour, cutoff: Cutoff) -> None:
            assert cutoff.available() is None
            assert rules() == ""
            cutoff.install(BOTH)
            cutoff.renew([VIPS[4]], LONG)
            assert cutoff.available() is None
            assert answers(neighbour) == BY_VERSION[4]

        with_neighbour(scene)

    def test_without_the_capability_it_says_so(self) -> None:
        said = subprocess.run([sys.executable, "-c", POWERLESS], check=True, capture_output=True, text=True).stdout
        assert said.splitlines() == [
            "no permission: it takes the capability NET_ADMIN",
            "nftables table carp-sidecar: the kernel refused the batch: Operation not permitted (EPERM)",
        ]


# Without a kernel ------------------------------------------------------------------------------------------------


class FakeNft(Nft):
    """Answers each batch with what it is told to, and keeps them."""

    def __init__(self, *refusals: Exception | None) -> None:
        super().__init__()
        self.refusals = list(refusals)
        self.batches: list[Batch] = []

    def run(self, wanted: Batch) -> None:
        self.batches.append(wanted)
        refusal = self.refusals.pop(0) if self.refusals else None
        if refusal is not None:
            raise refusal

    def dump(self, wanted: Message) -> list[bytes]:
        self.run(nft.batch([wanted]))
        return []


GONE = NftError("set live4", errno.ENOENT)


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        (NftError("table inet carp-sidecar", errno.EPERM), "no permission: it takes the capability NET_ADMIN"),
        (NftError(nft.WHOLE, errno.EOPNOTSUPP), "the kernel has no nf_tables"),
        (
            NftError("table arp carp-sidecar", errno.EAFNOSUPPORT),
            "the kernel's nf_tables refuses table arp carp-sidecar: "
            "Address family not supported by protocol (EAFNOSUPPORT)",
        ),
        (
            OSError(errno.EPROTONOSUPPORT, os.strerror(errno.EPROTONOSUPPORT)),
            "netfilter cannot be asked: Protocol not supported",
        ),
        (None, None),
    ],
)
def test_what_is_missing_is_told_in_a_few_words(refusal: Exception | None, words: str | None) -> None:
    assert Cutoff(kernel=FakeNft(refusal)).available() == words


def test_an_element_that_expires_while_it_is_renewed_is_renewed_once_more() -> None:
    kernel = FakeNft(None, GONE, None, GONE, GONE)
    cutoff = Cutoff(kernel=kernel)
    cutoff.install(BOTH)
    cutoff.renew(BOTH, LONG)
    assert kernel.batches[1] == kernel.batches[2]
    with pytest.raises(CutoffLostError):
        cutoff.release(BOTH)


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        (NftError("set live4", errno.EINVAL), "the kernel refused set live4: Invalid argument (EINVAL)"),
        (OSError(errno.EMSGSIZE, "Message too long"), "the kernel cannot be asked: Message too long"),
    ],
)
def test_what_the_kernel_refuses_is_one_line(refusal: Exception, words: str) -> None:
    actions: list[Callable[[Cutoff], object]] = [
        lambda cutoff: cutoff.install(BOTH),
        lambda cutoff: cutoff.renew(BOTH, LONG),
        lambda cutoff: cutoff.release(BOTH),
        lambda cutoff: cutoff.remove(),
    ]
    for action in actions:
        with pytest.raises(CutoffError) as caught:
            action(Cutoff("x", kernel=FakeNft(refusal)))
        assert str(caught.value) == f"nftables table carp-sidecar-x: {words}"
    with pytest.raises(CutoffError, match=r"^nftables cannot be read: "):
        Cutoff("x", kernel=FakeNft(refusal)).remaining(BOTH)


def test_a_lease_shorter_than_a_tick_is_refused_since_the_kernel_would_never_end_it() -> None:
    kernel = FakeNft()
    with pytest.raises(CutoffError, match=rf"^a lease of 0 ms is shorter than the kernel's tick of {tick_ms():g} ms$"):
        Cutoff(kernel=kernel).renew(BOTH, 0)
    assert kernel.batches == []


def test_a_vip_stays_managed_longer_than_it_is_live_without_paying_for_it_each_time() -> None:
    kernel = FakeNft()
    cutoff = Cutoff(kernel=kernel)
    for milliseconds in (1000, 1000, 5000, 100_000, 1000, 1000):
        cutoff.renew(BOTH, milliseconds)
    assert ["set managed4" in batch.names for batch in kernel.batches] == [True, False, False, True, False, False]
    assert kernel.batches[4].data is not kernel.batches[1].data
    assert kernel.batches[4] == kernel.batches[1]
    cutoff.install(BOTH)
    cutoff.renew(BOTH, 1000)
    assert "set managed4" in kernel.batches[-1].names
    cutoff.release(BOTH)
    cutoff.renew(BOTH, 1000)
    assert "set managed4" in kernel.batches[-1].names, "for it is managed for a shorter time now"
