"""The demo and what it stands on: a LAN of namespaces, probers, an API server. Nothing of it runs in the product."""

from __future__ import annotations


def main(*, colour: bool) -> int:
    """Show in the terminal how the VIP moves; return the exit code. ``colour`` allows colours where it has them.

    0 it went as told, 1 it did not, 3 missing privilege; 130 and 143 after SIGINT and SIGTERM. Nothing is left behind.
    """
    from sidecar.demo.stage import play  # noqa: PLC0415 -- the tests' LAN needs neither the API client nor the story

    return play(colour=colour)
