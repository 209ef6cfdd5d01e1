from __future__ import annotations

import pytest
from pydantic import ValidationError

from sidecar.config.model import (
    GlobalKeys,
    GroupKeys,
    IdentityKeys,
    Settings,
    SettingsError,
    env_name,
    remedy,
)

VARIABLES = {
    "CARP_INTERFACE", "CARP_VHID", "CARP_VIPS", "CARP_PASSWORD_FILE", "CARP_PASSWORD", "CARP_ADVBASE",
    "CARP_CLOCK_SKEW", "CARP_ADVSKEW", "CARP_TRANSPORT", "CARP_PEERS", "CARP_PREEMPT_DELAY",
    "CARP_STARTUP_DELAY", "CARP_ADDRESS_FAMILY", "CARP_SOURCE_ADDRESS6", "CARP_MULTICAST_GROUP6",
    "CARP_DEAD_RATIO", "CARP_PREEMPT", "CARP_SOURCE_ADDRESS", "CARP_MULTICAST_GROUP", "CARP_REPLAY", "CARP_KUBERNETES",
    "CARP_ROLE_LABEL", "POD_NAME", "POD_NAMESPACE", "NODE_NAME", "KUBECONFIG", "CARP_RUNTIME_DIR", "CARP_LOG_LEVEL",
    "CARP_LOG_FORMAT", "CARP_CONFIG_FILE", "CARP_IGNORE_LINK", "CARP_UP_COMMAND", "CARP_DOWN_COMMAND", "CARP_NEUTRAL",
    "CARP_SHUTDOWN", "CARP_XPARAM", "CARP_HEALTH", "CARP_HTTP_LISTEN", "CARP_LEASE", "CARP_ON_EXIT", "CARP_MAC",
    "CARP_REALTIME", "CARP_TARGET_SELECTOR", "CARP_ENDPOINT_SLICE", "CARP_LOAD_BALANCER_CLASS",
    "CARP_READINESS_CONDITION", "CARP_LEASE_WITNESS", "CARP_EVENTS", "CARP_NODE_EVENTS",
    "CARP_NODE_ANNOTATIONS", "CARP_CORDON",
}  # fmt: skip


def test_the_variables_of_this_version() -> None:
    assert {env_name(field) for field in Settings.model_fields} == VARIABLES


@pytest.mark.parametrize("field", sorted(Settings.model_fields))
def test_every_setting_has_a_meaning_and_a_remedy(field: str) -> None:
    assert (Settings.model_fields[field].description or "").rstrip().endswith(".")
    assert remedy(field)[0].islower()
    assert not remedy(field).endswith(".")


def test_defaults() -> None:
    settings = Settings.model_validate({})
    assert (settings.advbase, settings.advskew, settings.dead_ratio, settings.preempt) == (1, 0, 3, False)
    assert (str(settings.multicast_group), settings.replay) == ("224.0.0.18", "strict")
    assert (settings.up_command, settings.down_command, settings.xparam) == ((), (), None)
    assert (settings.neutral, settings.shutdown, settings.ignore_link) == (False, True, False)
    assert (settings.kubernetes, settings.role_label) == ("auto", "carp-role")
    assert (settings.runtime_dir, settings.log_level, settings.log_format) == ("/run/carp-sidecar", "info", "json")
    assert settings.config_file == "/etc/carp-sidecar/config.yaml"
    assert settings.interface is settings.vhid is settings.vips is settings.password is None


@pytest.mark.parametrize("text", ["true", "TRUE", "1", "yes", "Yes", "on"])
def test_true(text: str) -> None:
    assert GroupKeys.model_validate({"preempt": text}).preempt is True


@pytest.mark.parametrize("text", ["false", "0", "no", "OFF"])
def test_false(text: str) -> None:
    assert GroupKeys.model_validate({"preempt": text}).preempt is False


@pytest.mark.parametrize("vips", ["10.0.0.1, fd00::1/64,", ["10.0.0.1", " fd00::1/64 "]])
def test_vips_as_text_or_list(vips: object) -> None:
    keys = GroupKeys.model_validate({"vips": vips})
    assert [str(vip) for vip in keys.vips or ()] == ["10.0.0.1/32", "fd00::1/64"]


@pytest.mark.parametrize(
    ("model", "given"),
    [
        (GroupKeys, {"vips": []}),
        (GroupKeys, {"vips": [["10.0.0.1"]]}),
        (GroupKeys, {"vips": "10.0.0.1,10.0.0.1/24"}),
        (GroupKeys, {"vips": [f"10.0.{n // 200}.{n % 200 + 1}" for n in range(256)]}),
        (GroupKeys, {"vhid": "0"}),
        (GroupKeys, {"advskew": "255"}),
        (GroupKeys, {"dead_ratio": "0"}),
        (GroupKeys, {"replay": "lenient"}),
        (GroupKeys, {"clock_skew": "0"}),
        (GroupKeys, {"clock_skew": "86401"}),
        (GroupKeys, {"vhdi": "1"}),
        (GroupKeys, {"up_command": "up.sh"}),
        (GroupKeys, {"down_command": ["/down"]}),
        (GroupKeys, {"neutral": "maybe"}),
        (GroupKeys, {"xparam": "two\nlines"}),
        (GlobalKeys, {"log_level": "loud"}),
        (IdentityKeys, {"pod_namespace": "../kube-system"}),
    ],
)
def test_refused(model: type[GroupKeys], given: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        model.model_validate(given)


def test_the_password_shows_in_no_text_of_the_model() -> None:
    keys = GroupKeys.model_validate({"password": "hunter2"})
    assert keys.password is not None
    assert keys.password.get_secret_value() == "hunter2"
    assert "hunter2" not in f"{keys!r}{keys!s}{keys.model_dump()}"
    with pytest.raises(ValidationError) as raised:
        GroupKeys.model_validate({"password": "hunter2" * 4})
    assert "hunter2" not in str(raised.value)


def test_the_error_is_its_lines() -> None:
    error = SettingsError(["a: b; c", "d: e; f"])
    assert error.lines == ("a: b; c", "d: e; f")
    assert str(error) == "a: b; c\nd: e; f"
