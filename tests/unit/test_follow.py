"""Following pods: what is known at any time is what the server said last."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from sidecar.agent.errors import ApiError
from sidecar.agent.follow import LONGEST_WATCH, Follower, Which
from tests.fakes.pods import FakePods
from tests.fakes.time import run, until


class Story:
    """A follower of the pods with app=web, and what it told."""

    def __init__(self, which: Which) -> None:
        self.server = FakePods()
        self.client = self.server.client()
        self.changes = 0
        self.faults: list[ApiError | None] = []
        self.follower = Follower(
            self.client, which, changed=self.changed, failed=self.faults.append, jitter=lambda: 0.5
        )

    def changed(self) -> None:
        self.changes += 1

    @property
    def names(self) -> list[str] | None:
        return None if self.follower.items is None else sorted(self.follower.items)


def test_it_knows_what_is_there_what_comes_and_what_goes() -> None:
    async def told() -> None:
        story = Story(Which(labels="app=web"))
        story.server.add("one", {"app": "web"})
        story.server.add("other", {"app": "db"})
        assert story.names is None
        task = asyncio.create_task(story.follower.run())
        await until(lambda: story.names == ["one"], "the list")
        story.server.add("two", {"app": "web"})
        await until(lambda: story.names == ["one", "two"], "one that comes")
        story.server.edit("one", {"app": "db"})
        await until(lambda: story.names == ["two"], "one that is chosen no more")
        story.server.remove("two")
        await until(lambda: story.names == [], "one that goes")
        before = story.changes
        await asyncio.sleep(LONGEST_WATCH - 1)
        assert story.changes <= before + 1
        assert story.server.calls["list"] <= 2
        task.cancel()

    run(told())


def test_a_list_that_lies_is_put_right_when_the_watch_is_over() -> None:
    async def told() -> None:
        story = Story(Which(labels="app=web"))
        story.server.add("one", {"app": "web"})
        task = asyncio.create_task(story.follower.run())
        await until(lambda: story.names == ["one"], "the list")
        assert story.follower.items is not None
        story.follower.items.clear()
        await until(lambda: story.names == ["one"], "the next list", within=LONGEST_WATCH + 5)
        task.cancel()

    run(told())


def test_a_connection_that_breaks_goes_on_where_it_was_and_loses_nothing() -> None:
    async def told() -> None:
        story = Story(Which())
        task = asyncio.create_task(story.follower.run())
        await until(lambda: story.names == [], "the list")
        for number in range(20):
            story.client.cut = True
            story.server.add(f"pod-{number}")
            await asyncio.sleep(0.3)
            story.client.cut = False
            await until(lambda: len(story.names or []) == len(story.server.pods), "it is told", within=2)
        assert story.server.calls["list"] == 1
        await asyncio.sleep(10)
        assert story.faults[-1] is None
        task.cancel()

    run(told())


def test_what_we_wrote_ourselves_is_known_at_once_and_never_replaced_by_what_was_before() -> None:
    async def told() -> None:
        story = Story(Which())
        before = story.server.add("one", {"app": "web"})
        task = asyncio.create_task(story.follower.run())
        await until(lambda: story.names == ["one"], "the list")
        story.follower.wrote(replace(before, resource_version="900", labels={"app": "new"}))
        story.server.edit("one", {"app": "older than that"})
        await asyncio.sleep(1)
        assert story.follower.items is not None
        assert story.follower.items["one"].labels == {"app": "new"}
        story.follower.wrote(replace(before, name="stranger"))
        story.follower.wrote(replace(before, uid="another", resource_version="901"))
        assert story.follower.items["one"].labels == {"app": "new"}
        assert story.names == ["one"]
        task.cancel()

    run(told())
