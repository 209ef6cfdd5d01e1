"""A node with fixed network interfaces, on which settings are loaded from a dictionary and a temporary file."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_interface
from pathlib import Path

from sidecar.config.model import Interface, SettingsError
from sidecar.config.settings import Loaded, load

INTERFACES = (
    Interface("lo", (ip_interface("127.0.0.1/8"), ip_interface("::1/128"))),
    Interface("eth0", (ip_interface("10.0.0.11/24"), ip_interface("10.0.0.12/24"), ip_interface("fe80::1/64"))),
    Interface("eth1", (ip_interface("192.168.1.5/24"), ip_interface("fe80::2/64"))),
    Interface("bare", ()),
)
LISTED = "eth0 (10.0.0.11/24, 10.0.0.12/24, fe80::1/64), eth1 (192.168.1.5/24, fe80::2/64), bare (no address)"
ENOUGH = {"CARP_VHID": "42", "CARP_VIPS": "10.0.0.200", "CARP_PASSWORD": "correct horse"}


def load_on_node(environ: Mapping[str, str], *, default_config_file: Path = Path("/nonexistent/none.yaml")) -> Loaded:
    return load(
        environ,
        interfaces=lambda: INTERFACES,
        hostname=lambda: "host-1",
        default_config_file=str(default_config_file),
    )


def mistakes(environ: Mapping[str, str], *, default_config_file: Path = Path("/nonexistent/none.yaml")) -> list[str]:
    """Return the lines of the SettingsError, or none."""
    try:
        load_on_node(environ, default_config_file=default_config_file)
    except SettingsError as error:
        return list(error.lines)
    return []
