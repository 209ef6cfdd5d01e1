"""Where the fuzzer begins: inputs of each target, made from the tests' data, and the words that these are made of."""

from __future__ import annotations

import json
import typing
from collections.abc import Callable, Iterator, Mapping
from ipaddress import ip_address
from types import MappingProxyType

import msgspec

from sidecar.capture.files import frames
from sidecar.capture.frames import LINK_TYPES
from sidecar.config.model import GroupKeys, Settings, env_name
from sidecar.ipc import messages
from sidecar.ipc.messages import AnyMessage, encode
from sidecar.ipc.plan import encode_plan
from sidecar.net.neighbor import announcements
from tests.fakes.captures import CAPTURES, CONTAINERS, DATA, ipv6
from tests.fakes.plans import group_plan, node_plan
from tests.fuzz.targets import SEPARATOR

_MINIMAL = b"CARP_VHID=42\nCARP_VIPS=10.0.0.200\nCARP_PASSWORD=correct horse"
_FILE = b"""\
password: correct horse
preempt: true
groups:
  - {name: web, vhid: 42, vips: [10.0.0.200, "2001:db8::200/64"], advskew: 100}
  - {name: db, vhid: 43, vips: 10.0.0.201, transport: unicast, peers: [10.0.0.12]}
nodes:
  host-1: {advskew: 0}
  host-2: {groups: {db: {advskew: 10, preempt_delay: 1m}}}
"""


def _headers() -> Iterator[bytes]:
    for vector in json.loads((DATA / "vectors.json").read_text()):
        yield bytes.fromhex(vector["header"])


def _frames() -> Iterator[tuple[int, bytes]]:
    for path in sorted(CAPTURES.glob("*.pcap")):
        with path.open("rb") as file:
            yield from ((each.link_type, each.data) for each in list(frames(file))[:4])


def _packets() -> Iterator[bytes]:
    yield from (data[14:] for link_type, data in _frames() if link_type == 1)
    yield from (ipv6(header) for header in list(_headers())[:4])


def _wire() -> Iterator[bytes]:
    return (bytes((bits,)) + header for bits, header in enumerate(_headers()) if bits < 16)


def _answers() -> Iterator[bytes]:
    mac, vips = bytes.fromhex("020000000099"), map(ip_address, ("10.0.0.200", "fd00::200"))
    yield from (frame for vip in vips for frame in announcements(mac=mac, address=vip))


def _captures() -> Iterator[bytes]:
    return (
        path.read_bytes()[:2000] for path in (*sorted(CAPTURES.glob("*.pcap")), *sorted(CONTAINERS.glob("*.pcap*")))
    )


def _tagged_frames() -> Iterator[bytes]:
    numbers = sorted(LINK_TYPES)
    return (bytes((numbers.index(link_type),)) + data for link_type, data in _frames())


def _messages() -> Iterator[bytes]:
    plan = group_plan()
    yield encode(messages.StartGroup(group=plan, resume=False))
    yield encode(messages.OpenInterface(interface="eth0", index=2, mac=bytes(6), up=True))
    yield encode(messages.Bound(group="web", error="refused"))
    yield encode(messages.Snapshot(groups=()))
    for kind in typing.get_args(AnyMessage):
        yield bytes((messages.VERSION,)) + msgspec.json.encode({"kind": kind.__name__, "group": "web", "token": 1})


def _plans() -> Iterator[bytes]:
    yield encode_plan(node_plan(group_plan(), group_plan(name="db", transport="unicast")))
    yield encode_plan(node_plan(kubernetes=False))


def _yaml() -> Iterator[bytes]:
    yield _FILE
    yield b"a: &x [1, ~, 'b']\nb: *x\n? c\n: |\n  text\nd: !!str 1\n--- # second\n..."
    yield b'%YAML 1.1\n---\n"\\x41\\u263a": {a: "b", <<: *x}'


def _settings() -> Iterator[bytes]:
    yield _MINIMAL + SEPARATOR
    yield b"NODE_NAME=host-2" + SEPARATOR + _FILE
    for field, info in Settings.model_fields.items():
        yield _MINIMAL + f"\n{env_name(field)}={info.default}".encode() + SEPARATOR
        yield _MINIMAL + SEPARATOR + f"{field}: {info.default}".encode()


SEEDS: Mapping[str, Callable[[], Iterator[bytes]]] = MappingProxyType(
    {
        "packet": _packets,
        "wire": _wire,
        "answer": _answers,
        "capture": _captures,
        "frame": _tagged_frames,
        "message": _messages,
        "plan": _plans,
        "yaml": _yaml,
        "settings": _settings,
    }
)
"""By target."""


def words() -> list[str]:
    """Return what random bytes would hardly ever spell: the names of messages, fields and settings."""
    kinds = typing.get_args(AnyMessage)
    fields = {field.name for kind in kinds for field in msgspec.structs.fields(kind)}
    return sorted(
        {*(kind.__name__ for kind in kinds), *fields, *GroupKeys.model_fields, *map(env_name, Settings.model_fields)}
    )
