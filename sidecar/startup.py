"""The settings of this node as start-up finds them: environment, files, and the kernel's interfaces."""

from __future__ import annotations

from collections.abc import Mapping

from sidecar.config.model import Interface
from sidecar.config.settings import Loaded
from sidecar.config.settings import load as load_settings
from sidecar.net.addresses import Addresses


def load(environ: Mapping[str, str]) -> Loaded:
    """Read and check them. Raises SettingsError."""
    return load_settings(environ, interfaces=interfaces)


def interfaces() -> list[Interface]:
    """Return this node's network interfaces with their own addresses; no leased VIPs."""
    with Addresses() as kernel:
        own = [address for address in kernel.addresses() if not address.leased]
        return [
            Interface(link.name, tuple(a.interface for a in own if a.index == link.index)) for link in kernel.links()
        ]
