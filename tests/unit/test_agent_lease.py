"""The Lease: written by a new master, read by anybody, deciding nothing."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import msgspec

from sidecar.agent.errors import ApiError
from sidecar.agent.lease import Witness, number
from sidecar.agent.reconciler import Mastered
from tests.fakes.objects import Objects, context, mastered
from tests.fakes.time import run

PATH = "/apis/coordination.k8s.io/v1/namespaces/edge/leases/carp-sidecar-web"


async def witnessed(objects: Objects, *masters: Mastered, seconds: float = 5.0) -> list[tuple[str, int]]:
    known: list[tuple[str, int]] = []
    witness = Witness(objects, context(), lambda group, epoch: known.append((group, epoch)))  # type: ignore[arg-type]
    task = asyncio.create_task(witness.run())
    for each in masters:
        witness.follow((each,))
        await asyncio.sleep(seconds)
        witness.follow((each,))
        await asyncio.sleep(seconds)
    witness.follow(())
    await asyncio.sleep(seconds)
    task.cancel()
    return known


def test_each_takeover_is_one_write_and_nothing_else_is() -> None:
    objects = Objects()
    run(witnessed(objects, mastered()))
    assert len(objects.writes) == 1
    assert objects.found[PATH]["spec"] == {
        "holderIdentity": "a",
        "acquireTime": "1970-01-01T00:16:40.000000Z",
        "renewTime": "1970-01-01T00:16:40.000000Z",
        "leaseTransitions": 0,
    }
    run(witnessed(objects, mastered(pod="b", epoch=2), seconds=10_000))
    assert len(objects.writes) == 2
    spec: dict[str, Any] = objects.found[PATH]["spec"]
    assert (spec["holderIdentity"], spec["leaseTransitions"]) == ("b", 1)
    assert objects.found[PATH]["metadata"]["annotations"] == {
        "carp-sidecar/epoch": "2",
        "carp-sidecar/node": "node-b",
        "carp-sidecar/reason": "preempt",
    }
    run(witnessed(objects, mastered(pod="b", epoch=2)))  # its agent starts anew
    assert len(objects.writes) == 2
    run(witnessed(objects, mastered(pod="b", epoch=3)))
    assert objects.found[PATH]["spec"]["leaseTransitions"] == 1


def test_a_late_write_never_overwrites_a_newer_truth() -> None:
    objects = Objects()
    run(witnessed(objects, mastered(pod="b", epoch=7)))
    known = run(witnessed(objects, mastered(pod="a", epoch=6)))
    assert known == [("web", 7)]
    assert objects.found[PATH]["spec"]["holderIdentity"] == "b"


def test_which_of_two_is_newer_is_a_matter_of_epochs_and_not_of_clocks() -> None:
    objects = Objects()

    def by_a_clock(off: float, *, pod: str, epoch: int) -> Mastered:
        each = mastered(pod=pod, epoch=epoch)
        return dataclasses.replace(each, role=msgspec.structs.replace(each.role, since=1_000_000.0 + off))

    run(witnessed(objects, by_a_clock(9 * 3600, pod="a", epoch=1)))
    run(witnessed(objects, by_a_clock(-9 * 3600, pod="b", epoch=2)))
    assert objects.found[PATH]["spec"]["holderIdentity"] == "b"
    run(witnessed(objects, by_a_clock(9 * 3600, pod="a", epoch=1)))
    assert objects.found[PATH]["spec"]["holderIdentity"] == "b"


def test_one_that_was_written_in_between_is_read_again() -> None:
    objects = Objects()
    run(witnessed(objects, mastered(pod="b", epoch=1)))
    objects.failures = [ApiError("refused"), ApiError("refused")]
    run(witnessed(objects, mastered(pod="a", epoch=2)))
    assert objects.found[PATH]["spec"]["holderIdentity"] == "a"


def test_a_lease_that_cannot_be_written_holds_up_no_other() -> None:
    objects = Objects()
    objects.troubles["get", PATH.replace("web", "db")] = ApiError("a webhook says no", 422)

    async def story() -> None:
        witness = Witness(objects, context(), lambda *_: None)  # type: ignore[arg-type]
        task = asyncio.create_task(witness.run())
        witness.follow((mastered(group="db"), mastered()))
        await asyncio.sleep(5)
        task.cancel()

    run(story())
    assert objects.found[PATH]["spec"]["holderIdentity"] == "a"
    assert len(objects.writes) == 1


def test_an_epoch_that_is_no_number_counts_as_none() -> None:
    assert [number(text) for text in ("7", "", "x", "²", "9" * 30)] == [7, 0, 0, 0, 0]
