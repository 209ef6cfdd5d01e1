"""Whatever the environment and the file hold, the answer is a plan or lines, and a password is in none of them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.config.effective import effective, effective_dict
from sidecar.config.model import GlobalKeys, GroupKeys, Settings, SettingsError, env_name
from sidecar.config.probes import ProbeKeys
from sidecar.config.settings import Loaded
from sidecar.ipc.plan import decode_plan, encode_plan
from tests.fakes.node import ENOUGH, load_on_node

# Letters that no message, key or other value here puts together.
secrets = st.text(alphabet="ΩЖж☂漢", min_size=3, max_size=6) | st.text(alphabet="QJZX", min_size=5, max_size=12)
words = st.one_of(
    st.sampled_from(
        ["", "1", "0", "256", "x", "true", "off", "auto", "strict", "default", "eth0", "eth9", "null", "~"]
    ),
    st.sampled_from(["10.0.0.200", "10.0.0.11", "10.0.0.201/24,fd00::1", "224.0.0.18", "/nonexistent", "n1", "debug"]),
    st.text(alphabet=st.characters(codec=None, exclude_characters="\0ΩЖж☂漢"), max_size=12),
)
names = st.one_of(
    st.sampled_from([env_name(field) for field in Settings.model_fields]),
    st.from_regex(r"CARP_[A-Z_]{1,12}(_SERVICE_HOST|_PORT_[0-9]_TCP)?", fullmatch=True),
    st.sampled_from(["KUBERNETES_SERVICE_HOST", "PATH", "carp_vhid", "CARP_", "CARP_\n"]),
)
environments = st.builds(
    lambda base, given: base | given, st.sampled_from([{}, ENOUGH]), st.dictionaries(names, words, max_size=8)
)

group_keys = st.sampled_from([*GroupKeys.model_fields, "vhdi", "name", "pod_name"])
probes = st.lists(
    st.one_of(
        words,
        st.dictionaries(
            st.sampled_from([*ProbeKeys.model_fields, "nmae"]),
            st.one_of(
                words,
                st.sampled_from(["/bin/true", "http://127.0.0.1/x", "127.0.0.1:80", "2s", "Ready", "app", "true"]),
                st.lists(words, max_size=2),
            ),
            max_size=6,
        ),
    ),
    max_size=3,
)
leaves = st.one_of(
    probes, words, st.none(), st.integers(), st.booleans(), st.floats(), st.dates(), st.lists(words, max_size=3)
)
groups = st.dictionaries(group_keys, leaves, max_size=6)
overrides = st.dictionaries(
    st.sampled_from(["host-1", "n1", "n2"]),
    st.one_of(leaves, groups, groups.map(lambda keys: {"groups": {"default": keys, "web": keys}})),
    max_size=2,
)
documents = st.one_of(
    st.fixed_dictionaries(
        {},
        optional={
            **dict.fromkeys((*GlobalKeys.model_fields, *GroupKeys.model_fields), leaves),
            "groups": st.one_of(leaves, st.lists(st.one_of(groups, leaves), max_size=3)),
            "nodes": st.one_of(leaves, overrides),
        },
    ),
    st.recursive(leaves, lambda inner: st.one_of(st.lists(inner), st.dictionaries(words, inner)), max_leaves=8),
)
files = st.one_of(
    documents.map(lambda data: yaml.safe_dump(data, allow_unicode=True).encode("utf-8", "replace")),
    st.binary(max_size=200),
    st.text(alphabet="ab:-[]{}*&!|>'\"#,? \n\t%@", max_size=60).map(str.encode),
)


def outcome(environ: dict[str, str], file: bytes | None) -> Loaded | SettingsError:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        if file is not None:
            path.write_bytes(file)
        try:
            return load_on_node(environ, default_config_file=path)
        except SettingsError as error:
            return error


def everything_said(result: Loaded | SettingsError) -> str:
    match result:
        case SettingsError():
            return f"{result!r}\n{result.args}\n" + "\n".join(result.lines)
        case Loaded():
            return (
                f"{result!r}\n{result}\n{result.plan}\n{effective(result)}\n{effective_dict(result)}\n{result.warnings}"
            )


@settings(max_examples=400, deadline=None)
@given(environ=environments, file=st.none() | files)
def test_a_plan_or_lines_and_nothing_else(environ: dict[str, str], file: bytes | None) -> None:
    match outcome(environ, file):
        case SettingsError() as error:
            assert error.lines
            for line in error.lines:
                assert line.isprintable()
                assert ": " in line
                assert "; " in line
        case Loaded() as loaded:
            assert decode_plan(encode_plan(loaded.plan)) == loaded.plan


def with_secret(secret: str, place: str) -> tuple[dict[str, str], Any]:
    """Return an environment and a document with ``secret`` in one of the places where a password is given."""
    group = {"vhid": 1, "vips": "10.0.0.8"}
    environ: dict[str, str] = {}
    documents_by_place: dict[str, Any] = {
        "top": group | {"password": secret},
        "group": {"groups": [group | {"name": "web", "password": secret}]},
        "node": group | {"nodes": {"host-1": {"password": secret}}},
        "other node": group | {"nodes": {"n9": {"password": secret, "groups": {"default": {"password": secret}}}}},
        "misspelt key": group | {"pasword": secret},
        "list": group | {"password": [secret]},
        "mapping": group | {"password": {"value": secret}},
        "misspelt variable": group,
    }
    if place == "misspelt variable":
        environ = {"CARP_PASWORD": secret}
    if place == "environment":
        environ = {"CARP_VHID": "1", "CARP_VIPS": "10.0.0.8", "CARP_PASSWORD": secret}
    return environ, documents_by_place.get(place)


PLACES = ["environment", "misspelt variable", "top", "group", "node", "other node", "misspelt key", "list", "mapping"]
FIT = {"environment", "top", "group", "node"}


@settings(max_examples=300, deadline=None)
@given(
    secret=secrets,
    place=st.sampled_from(PLACES),
    long=st.booleans(),
    others=environments,
    spoil=st.sampled_from(["", "\n  x: y: z", "\n\t", "\n: [", "\n*a", "\nvhid: 1\nvhid: 2\n"]),
)
def test_a_password_is_in_nothing_that_is_said(
    secret: str, place: str, *, long: bool, others: dict[str, str], spoil: str
) -> None:
    environ, data = with_secret(secret * 5 if long else secret, place)
    file = None if data is None else (yaml.safe_dump(data, allow_unicode=True) + spoil).encode()
    said = everything_said(outcome(others | environ, file))
    assert secret not in said
    assert ascii(secret)[1:-1] not in said


BROKEN = """
password: *{}
password: !{} x
password: '{}
password: "{}
password: {{{}
password: x: {}
password: &{} a|b: *c
vhid: 1|  password {}
password: [{}]: x
password {}: x
password {}
password: {}|password: {}
- {}
{}
password: %{}|%
""".strip().splitlines()


@given(
    secret=secrets,
    line=st.sampled_from(BROKEN),
)
def test_a_password_in_broken_yaml_is_not_quoted(secret: str, line: str) -> None:
    result = outcome({"CARP_VIPS": "10.0.0.8"}, line.replace("|", "\n").format(secret, secret).encode())
    assert isinstance(result, SettingsError)
    assert secret not in everything_said(result)


@given(secret=secrets, place=st.sampled_from(sorted(FIT)))
def test_the_same_password_is_in_the_plan(secret: str, place: str) -> None:
    environ, data = with_secret(secret, place)
    file = None if data is None else yaml.safe_dump(data, allow_unicode=True).encode()
    result = outcome(environ, file)
    raw = secret.encode()
    assert isinstance(result, Loaded) == (len(raw) <= 20)
    if isinstance(result, Loaded):
        assert [group.key for group in result.plan.groups] == [raw.ljust(20, b"\0")]
