"""The status page in a real browser: what it shows, that it follows, and that nothing that it shows can do anything."""

from __future__ import annotations

import asyncio
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from sidecar.agent.listener import Listener
from sidecar.agent.pods import Pods
from sidecar.agent.question import Engine, NoAnswerError
from sidecar.agent.site import Site
from sidecar.agent.state import ApiState, MirrorStatus
from sidecar.ipc.messages import StatusReply
from tests.fakes.statuses import group_status, status_reply

PATIENCE = 40.0
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
)  # fmt: skip
EVIL = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"


class Told(Engine):
    """An engine that says what the test wants."""

    def __init__(self) -> None:
        self.reply: StatusReply | str = ""

    async def status(self) -> StatusReply:
        if isinstance(self.reply, str):
            raise NoAnswerError(self.reply)
        return self.reply


class Listed(Pods):
    """Pods that the test names."""

    def __init__(self) -> None:
        self.known: list[dict[str, object]] | None = None

    async def look(self) -> dict[str, object]:
        return {"pods": self.known, "as_of": "2026-11-23T04:40:50.000Z", "error": ""}


@dataclass
class Node:
    """A listener in a thread of its own; ``reply`` and ``mirror`` are what it tells."""

    engine: Told = field(default_factory=Told)
    mirror: MirrorStatus = field(default_factory=MirrorStatus)
    pods: Listed = field(default_factory=Listed)
    now: float = 1795408850.0
    port: int = 0

    def tells(self, reply: StatusReply | str) -> None:
        self.engine.reply = reply

    def serve(self, stop: asyncio.Event) -> Callable[[], Any]:
        async def run() -> None:
            site = Site(self.engine, mirror=self.mirror, pods=self.pods, wall=lambda: self.now)
            work = asyncio.create_task(Listener(f"127.0.0.1:{self.port}", site).run())
            await stop.wait()
            work.cancel()
            await asyncio.wait([work])

        return run


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    made = Node()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        made.port = probe.getsockname()[1]
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(made.serve(stop)()))
    thread.start()
    yield made
    loop.call_soon_threadsafe(stop.set)
    thread.join()
    loop.close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("NO chromium, so the status page is not tested: as root on Debian, `make system-packages`")
    options = Options()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    made = webdriver.Chrome(options=options, service=Service(driver))
    yield made
    made.quit()


@dataclass
class Page:
    browser: webdriver.Chrome
    node: Node

    def open(self, reply: StatusReply) -> None:
        self.node.tells(reply)
        self.browser.get(f"http://127.0.0.1:{self.node.port}/")
        self.until(lambda: self.browser.find_elements(By.CSS_SELECTOR, "section.group"), "the groups are there")

    def until(self, condition: Callable[[], object], what: str) -> None:
        WebDriverWait(self.browser, PATIENCE, 0.1).until(lambda _: condition(), what)

    def text(self, selector: str = "body") -> str:
        """All that a person reads there."""
        script = "return document.querySelector(arguments[0]).innerText"
        found: str = self.browser.execute_script(script, selector)
        return found

    def run(self, script: str) -> Any:
        return self.browser.execute_script(script)

    def complaints(self) -> list[str]:
        return [entry["message"] for entry in self.browser.get_log("browser")]


@pytest.fixture
def page(browser: webdriver.Chrome, node: Node) -> Iterator[Page]:
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.get("about:blank")
    browser.get_log("browser")
    node.pods.known = None
    return Page(browser, node)


def test_it_shows_the_groups_with_peers_demotion_and_timeline_and_breaks_no_rule_of_its_policy(page: Page) -> None:
    page.open(status_reply(group_status(), group_status(name="db", vhid=43, role="backup", rivals=("10.0.0.66",))))
    assert page.text("h1") == "node-1"
    assert page.browser.title == "MASTER · node-1"
    first, second = (each.text for each in page.browser.find_elements(By.CSS_SELECTOR, "section.group"))
    for words in (
        "contested: 10.0.0.200 at 02:00:00:00:00:09",
        "MASTER", "web", "10.0.0.200/32", "fd00::200/128", "no advert was heard", "10.0.0.11 (this node)",
        "by 240: maintenance (new disks)", "42 on eth0", "30 sent, 40 heard, 1 not sent", "bad-hmac 5", "10.0.0.12",
        "10 s ago", "backup → master", "master-down", "init → backup", "2026-11-23 04:40:08Z, 42 s ago",
    ):  # fmt: skip
        assert words in first, words
    assert first.index("backup → master") < first.index("init → backup"), "the newest first"
    assert "BACKUP" in second
    assert "10.0.0.66: master too, and going on" in second
    assert "unknown-vhid 7" in page.text()
    assert page.complaints() == []
    loaded = page.run("return performance.getEntriesByType('resource').map((each) => each.name)")
    assert {name.split("/")[2] for name in loaded} == {f"127.0.0.1:{page.node.port}"}


def test_it_follows(page: Page) -> None:
    page.open(status_reply())
    page.node.tells(status_reply(group_status(role="backup", master="10.0.0.12", detail="somebody better")))
    page.until(lambda: "BACKUP" in page.text("h2"), "it shows the new role")
    assert "somebody better" in page.text("section.group")
    page.node.tells("the engine has not turned its loop for 7.0 s")
    page.until(lambda: "not turned its loop for 7.0 s" in page.text("#pulse"), "it says that it is out of date")
    assert page.run("return getComputedStyle(document.querySelector('main')).opacity") != "1"
    page.node.tells(status_reply())
    page.until(lambda: "MASTER" in page.text("h2"), "it goes on")
    assert page.run("return document.body.className") == ""


def test_what_strangers_say_is_text(page: Page) -> None:
    group = group_status(name=EVIL, role=EVIL, detail=EVIL, vips=(EVIL,), master=EVIL, rivals=(EVIL,))
    transition = msgspec.structs.replace(group.history[0], after=EVIL, detail=EVIL, reason=EVIL)
    page.node.mirror.last_error = EVIL
    page.node.pods.known = [{"name": EVIL, "roles": {EVIL: EVIL}, "addresses": [EVIL], "ready": True}]
    page.open(status_reply(msgspec.structs.replace(group, history=(transition,)), node=EVIL))
    assert page.text("h1") == EVIL
    assert page.run("return document.querySelectorAll('img, main script').length") == 0
    assert "owned" not in page.browser.title.replace(EVIL, "")
    assert page.complaints() == []
    assert (
        page.run("try { document.body.innerHTML = '<b>x</b>'; return 'done' } catch { return 'refused' }") == "refused"
    )


def test_pods_of_the_group(page: Page) -> None:
    page.node.pods.known = [
        {"name": "carp-a", "roles": {"web": "master"}, "addresses": ["10.0.0.11"], "ready": True},
        {"name": "carp-b", "roles": {"web": "backup"}, "addresses": ["10.0.0.12"], "ready": False},
    ]
    page.node.mirror.api, page.node.mirror.last_error = ApiState.REFUSED, "the right to patch pods is missing"
    page.node.mirror.missing_rights = {"patch pods"}
    page.node.mirror.pending_since = page.node.now - 2.5
    page.open(status_reply())
    text = page.text("main section:last-child")
    for words in (
        "Kubernetes", "refused", "behind for 2.5 s", "the right to patch pods is missing", "carp-a", "10.0.0.11",
        "master web", "carp-b (not ready)", "backup web", "PODS AS OF 04:40:50Z",
    ):  # fmt: skip
        assert words in text, words


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_readable_on_a_phone_by_day_and_by_night(page: Page, scheme: str) -> None:
    phone = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    page.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    page.open(status_reply(group_status(), group_status(name="x" * 63, role="backup")))
    assert page.run("return document.documentElement.scrollWidth") <= 360, "nothing is wider than the phone"
    dark = page.run("return getComputedStyle(document.body).backgroundColor") == "rgb(18, 22, 28)"
    assert dark is (scheme == "dark")
    assert page.run(CONTRAST) >= 4.5, "WCAG 2.2, 1.4.3"


CONTRAST = """
const light = (colour) => {
  const [r, g, b] = colour.match(/[0-9.]+/g).slice(0, 3).map((n) => n / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const under = light(getComputedStyle(document.querySelector("section")).backgroundColor);
const page = light(getComputedStyle(document.body).backgroundColor);
const ratio = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
const inside = [...document.querySelectorAll("section *")].filter((each) => each.textContent.trim());
return Math.min(
  ...inside.map((each) => ratio(light(getComputedStyle(each).color), under)),
  ...[...document.querySelectorAll("header *, footer")]
    .map((each) => ratio(light(getComputedStyle(each).color), page)));
"""
