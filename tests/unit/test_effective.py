from __future__ import annotations

import json
from pathlib import Path

import yaml

from sidecar.config.effective import effective, effective_dict
from tests.fakes.node import ENOUGH, load_on_node

SHOWN = """\
config_file: null
node_name: host-1
realtime: auto
runtime_dir: /run/carp-sidecar
log_level: info
log_format: json
http_listen: 127.0.0.1:9112
kubernetes: 'off'
groups:
- name: default
  interface: eth0
  vhid: 42
  vips:
  - 10.0.0.200/32
  password: '********'
  advbase: 1
  advskew: 128
  dead_ratio: 3
  preempt: false
  preempt_delay: 0s
  startup_delay: 0s
  address_family: ipv4
  source_address: 10.0.0.11
  multicast_group: 224.0.0.18
  transport: multicast
  peers: []
  replay: strict
  clock_skew: 60
  ignore_link: false
  lease: auto
  mac: interface
  on_exit: handover
  up_command: null
  down_command: null
  neutral: false
  shutdown: true
  xparam: null
  health: []
  # an advert every 1.500 s; a backup takes over 3.500 s after the last one
"""
LEASE = "address: in words"


def test_as_yaml() -> None:
    loaded = load_on_node(ENOUGH | {"CARP_ADVSKEW": "128"})
    assert effective(loaded) == SHOWN
    assert effective(loaded, {"default": LEASE}) == SHOWN + f"  # the lease is by {LEASE}\n"


def test_as_json() -> None:
    shown = effective_dict(load_on_node(ENOUGH | {"CARP_ADVSKEW": "128"}), {"default": LEASE})
    assert json.loads(json.dumps(shown)) == shown
    (group,) = shown["groups"]
    assert (group["interval_seconds"], group["master_down_seconds"]) == (1.5, 3.5)
    assert (group["lease"], group["lease_in_force"]) == ("auto", LEASE)
    assert group["password"] == "********"


def test_where_password_and_settings_came_from(tmp_path: Path) -> None:
    secret, config = tmp_path / "password", tmp_path / "c.yaml"
    secret.write_text("hunter2")
    config.write_text(f"vhid: 1\nvips: 10.0.0.8,fd00::8\npassword_file: {secret}\n")
    text = effective(load_on_node({}, default_config_file=config))
    shown = yaml.safe_load(text)
    assert (shown["config_file"], shown["groups"][0]["password_file"]) == (str(config), str(secret))
    assert shown["groups"][0]["vips"] == ["10.0.0.8/32", "fd00::8/128"]
    assert "hunter2" not in text


def test_the_mirror() -> None:
    given = {"KUBERNETES_SERVICE_HOST": "x", "POD_NAME": "p", "POD_NAMESPACE": "n"}
    shown = effective_dict(load_on_node(ENOUGH | given))
    assert (shown["kubernetes"], shown["pod_name"], shown["pod_namespace"]) == ("on", "p", "n")
    assert (shown["role_label"], shown["kubeconfig"]) == ("carp-role", None)
    assert (shown["readiness_condition"], shown["lease_witness"], shown["events"]) == (False, False, True)
    assert shown["node_events"] is False
    (group,) = shown["groups"]
    assert (group["target_selector"], group["endpoint_slice"], group["load_balancer_class"]) == (None, None, None)
    (alone,) = effective_dict(load_on_node(ENOUGH))["groups"]
    assert "target_selector" not in alone


def test_commands() -> None:
    given = {"CARP_UP_COMMAND": "/bin/sh -c 'exit 0'", "CARP_XPARAM": "x y", "CARP_NEUTRAL": "yes"}
    (group,) = effective_dict(load_on_node(ENOUGH | given))["groups"]
    assert (group["up_command"], group["down_command"], group["xparam"]) == ("/bin/sh -c 'exit 0'", None, "x y")
    assert (group["neutral"], group["shutdown"], group["ignore_link"]) == (True, True, False)


def test_no_listener() -> None:
    assert effective_dict(load_on_node(ENOUGH | {"CARP_HTTP_LISTEN": ""}))["http_listen"] == "off"
