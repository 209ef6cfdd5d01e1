"""Demotions of the whole node, and which groups they concern."""

from __future__ import annotations

from sidecar.engine.standing import Standing, carrier_lost, changes, unhealthy
from sidecar.ipc.messages import Health, HealthDemotion
from sidecar.protocol.events import Demote, Promote

MAINTENANCE = Demote(name="maintenance", weight=240, detail="new disks")
ETH0, ETH1 = carrier_lost("eth0"), carrier_lost("eth1")


def names(standing: Standing, interface: str, *, ignore_link: bool = False) -> list[str]:
    return [demotion.name for demotion in standing.concerning(interface=interface, ignore_link=ignore_link)]


def test_a_lost_carrier_in_words() -> None:
    assert Demote(name="link:eth0", weight=240, detail="eth0 has no carrier") == ETH0


def test_maintenance_concerns_every_group() -> None:
    standing = Standing()
    assert standing.take(MAINTENANCE)
    assert names(standing, "eth0") == names(standing, "eth1", ignore_link=True) == ["maintenance"]
    assert standing.give_back("maintenance")
    assert names(standing, "eth0") == []


def test_a_lost_carrier_concerns_the_other_interfaces_groups_that_care_for_links() -> None:
    standing = Standing()
    standing.take(ETH0, interface="eth0")
    standing.take(ETH1, interface="eth1")
    assert names(standing, "eth0") == ["link:eth1"]
    assert names(standing, "eth1") == ["link:eth0"]
    assert names(standing, "eth2") == ["link:eth0", "link:eth1"]
    assert names(standing, "eth2", ignore_link=True) == []


def test_only_a_change_is_one() -> None:
    standing = Standing()
    assert standing.take(MAINTENANCE)
    assert not standing.take(MAINTENANCE)
    assert standing.take(Demote(name="maintenance", weight=240, detail="new fans"))
    assert standing.give_back("maintenance")
    assert not standing.give_back("maintenance")


APP = HealthDemotion(name="health:app", weight=240, detail="it answered 503")
DB = HealthDemotion(name="health:db", weight=7, detail="/a is not there", groups=("db", "mail"))
NOTHING, BOTH = Health(), Health(demotions=(APP, DB))


def test_a_probe_concerns_its_groups() -> None:
    assert list(unhealthy(BOTH, "web")) == ["health:app"]
    assert list(unhealthy(BOTH, "mail")) == ["health:app", "health:db"]
    assert unhealthy(NOTHING, "web") == {}


def test_from_what_the_probes_said_to_what_they_say() -> None:
    take = Demote(name="health:db", weight=7, detail="/a is not there")
    assert changes(NOTHING, Health(demotions=(DB,)), "db") == [take]
    assert changes(NOTHING, Health(demotions=(DB,)), "web") == []
    assert changes(BOTH, BOTH, "db") == []
    assert changes(BOTH, Health(demotions=(APP,)), "db") == [Promote(name="health:db")]
    assert changes(BOTH, NOTHING, "web") == [Promote(name="health:app")]


def test_what_is_asked_of_backups_alone_says_so() -> None:
    aside = HealthDemotion(name="stand-aside", weight=239, detail="a rollout goes on", groups=("db",), as_backup=True)
    assert changes(NOTHING, Health(demotions=(aside,)), "db") == [
        Demote(name="stand-aside", weight=239, detail="a rollout goes on", as_backup=True)
    ]


def test_another_weight_or_reason_takes_the_place_of_the_old_one() -> None:
    heavier = HealthDemotion(name="health:db", weight=9, detail="/a is not there", groups=("db",))
    assert changes(BOTH, Health(demotions=(APP, heavier)), "db") == [
        Demote(name="health:db", weight=9, detail="/a is not there")
    ]
    assert changes(BOTH, Health(demotions=(APP, heavier)), "mail") == [Promote(name="health:db")]
