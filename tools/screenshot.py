"""Take docs/images/status.png from a real run: three nodes, a takeover, one in maintenance (root; chromium needed).

``python -m tools.screenshot``; the pictures change with every run, so CI does not take them anew.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from sidecar.control import ControlError, ask_maintenance
from sidecar.demo.lan import Lan, Node
from sidecar.demo.node import SidecarNode

IMAGES = Path(__file__).parents[1] / "docs" / "images"
VIPS = "10.77.0.100"
PAGE = "http://127.0.0.1:9112/"
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--hide-scrollbars", "--virtual-time-budget=6000",
)  # fmt: skip


def take(node: Node, file: Path, *, size: str, dark: bool) -> None:
    """Have Chromium in the node's own network look at the page on its loopback."""
    chromium = shutil.which("chromium")
    if chromium is None:
        raise SystemExit("chromium is not installed; `make system-packages` installs it")
    scheme = ["--blink-settings=preferredColorScheme=0"] if dark else ["--blink-settings=preferredColorScheme=1"]
    with tempfile.TemporaryDirectory() as profile:
        node.run(
            [
                chromium,
                *FLAGS,
                *scheme,
                f"--user-data-dir={profile}",
                f"--window-size={size}",
                f"--screenshot={file}",
                PAGE,
            ]
        )


def main() -> None:
    """Play the story and take the pictures."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name, Lan(nodes=3, prefix="carpshot") as lan:
        directory = Path(name)
        sidecars = [
            SidecarNode(
                node,
                directory,
                {
                    "CARP_VHID": "42",
                    "CARP_VIPS": VIPS,
                    "CARP_PASSWORD": "shot",
                    "CARP_ADVSKEW": str(skew),
                    "CARP_PREEMPT": "true",
                    "CARP_HTTP_LISTEN": "127.0.0.1:9112",
                },
            )
            for node, skew in zip(lan.nodes, (0, 50, 100), strict=True)
        ]
        try:
            first, second, third = sidecars
            first.start()
            _until(lambda: _is(first, "master"))
            second.start()
            third.start()
            _until(lambda: _is(second, "backup") and _is(third, "backup"))
            time.sleep(8)
            ask_maintenance(first.runtime_dir, reason="new disks")
            _until(lambda: _is(second, "master"))
            time.sleep(5)
            take(second.node, IMAGES / "status.png", size="1000,620", dark=False)
        finally:
            for each in sidecars:
                each.kill_all()


def _is(sidecar: SidecarNode, role: str) -> bool:
    try:
        return sidecar.group().role == role
    except ControlError:
        return False


def _until(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.1)


if __name__ == "__main__":
    main()
