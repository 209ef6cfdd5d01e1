"""Make the chart's values.schema.json: ``python -m tools.values_schema``.

What stands under ``config:`` comes from the settings' model, so that helm knows each key and what it takes; the chart's
own values are described here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from sidecar.config.model import GlobalKeys, GroupKeys
from sidecar.config.probes import ProbeKeys

SCHEMA = Path(__file__).parents[1] / "charts/carp-sidecar/values.schema.json"

Schema = dict[str, Any]

KEPT_OUT = frozenset({"password", "runtime_dir"})
"""A ConfigMap is no place for a password, and the chart mounts the runtime directory."""

_WORDS = {"off": False, "on": True}
"""What YAML 1.1, and so Helm, takes these words for; the chart's ConfigMap has the words again."""
_BOUNDS = {"ge": "minimum", "le": "maximum"}
_TIME = r"^[0-9]+(\.[0-9]+)?\s*(ms|s|m|h)?$"
_ADDRESS = r"^([0-9]{1,3}(\.[0-9]{1,3}){3}|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*)(/[0-9]{1,3})?$"


def setting(raw: Schema) -> Schema:
    """Return what the settings' file takes for a field that pydantic describes as ``raw``."""
    inner = next((each for each in raw.get("anyOf", ()) if each != {"type": "null"}), raw)
    kept = {_BOUNDS.get(key, key): value for key, value in inner.items() if key not in ("title", "default")}
    match kept:
        case {"type": "number"}:
            kept = {"anyOf": [kept, {"type": "string", "pattern": _TIME}]}
        case {"enum": words} if "off" in words:
            kept = {"enum": [*words, *(value for word, value in _WORDS.items() if word in words)]}
        case {"type": "string"} if raw["title"] == "Http Listen":
            kept = {"anyOf": [kept, {"enum": [_WORDS["off"]]}]}
        case {"type": "array", "items": {"anyOf": [{"format": "ipv4interface"}, *_]}}:
            one = {"type": "string", "pattern": _ADDRESS}
            kept = {"anyOf": [{"type": "array", "items": one, "minItems": 1}, {"type": "string", "minLength": 1}]}
        case {"type": "array", "items": {"$ref": "#/$defs/ProbeKeys"}}:
            probe = _object(settings_of(ProbeKeys), required=["name"])
            kept = {"anyOf": [{"type": "array", "items": probe}, {"type": "string"}]}
        case {"type": "array", "items": {"type": "string"}} if raw["title"] == "Exec":
            kept = {"anyOf": [{"type": "array", "items": {"type": "string"}, "minItems": 1}, {"type": "string"}]}
        case {"type": "array"}:  # the file has such lists as one text: peers with commas, commands as in a shell
            kept = {"type": "string"}
    return {**kept, "description": " ".join(raw["description"].split())}


def settings_of(model: type[BaseModel]) -> Schema:
    """Return the keys of ``model`` as JSON schema's properties."""
    properties = model.model_json_schema()["properties"]
    return {name: setting(raw) for name, raw in properties.items() if name not in KEPT_OUT}


def _object(properties: Schema, **more: object) -> Schema:
    return {"type": "object", "properties": properties, "additionalProperties": False, **more}


def _free(kind: str = "object") -> Schema:
    """Describe what Kubernetes itself checks."""
    return {"type": kind}


def config() -> Schema:
    """Return the schema of ``config:``, which is that of the settings' file."""
    group = settings_of(GroupKeys)
    name = {"type": "string", "pattern": "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", "description": "The group's name."}
    groups = {"type": "array", "minItems": 1, "items": _object({"name": name, **group}, required=["name"])}
    overrides = {"type": "object", "additionalProperties": _object(group)}
    nodes = {"type": "object", "additionalProperties": _object({**group, "groups": overrides})}
    return _object({**settings_of(GlobalKeys), **group, "groups": groups, "nodes": nodes})


def values() -> Schema:
    """Return the whole schema."""
    text, switch = _free("string"), _free("boolean")
    some = {"type": "integer", "minimum": 0}
    probe = _object(dict.fromkeys(("initialDelaySeconds", "periodSeconds", "timeoutSeconds", "failureThreshold"), some))
    properties = {
        "config": config(),
        "password": _object({"existingSecret": text, "key": {"type": "string", "pattern": "^[-._a-zA-Z0-9]+$"}}),
        "image": _object(
            {
                "repository": {"type": "string", "minLength": 1},
                "tag": text,
                "digest": {"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
                "pullPolicy": {"enum": ["Always", "IfNotPresent", "Never"]},
            }
        ),
        "updateStrategy": _object(
            {
                "type": {"enum": ["Ordered", "RollingUpdate", "OnDelete"]},
                "nodeTimeoutSeconds": {"type": "integer", "minimum": 1, "maximum": 3600},
                "rollingUpdate": {"type": "object"},
            }
        ),
        "service": _object({"enabled": switch, "annotations": _free(), "ports": _free("array")}),
        "serviceAccount": _object({"create": switch, "name": text, "annotations": _free()}),
        "rbac": _object({"create": switch, "nodeNames": {"type": "array", "items": text}}),
        "podDisruptionBudget": _object({"enabled": switch, "minAvailable": {"type": "integer", "minimum": 1}}),
        "podMonitor": _object({"enabled": switch, "interval": text, "labels": _free()}),
        "prometheusRule": _object({"enabled": switch, "labels": _free()}),
        "dashboard": _object({"enabled": switch, "labels": _free()}),
        "preStopDrain": switch,
        "realtimeScheduling": switch,
        "global": _free(),
    }
    properties |= dict.fromkeys(("startupProbe", "livenessProbe", "readinessProbe"), probe)
    properties |= dict.fromkeys(("minReadySeconds", "terminationGracePeriodSeconds"), some)
    properties |= dict.fromkeys(("nameOverride", "fullnameOverride", "priorityClassName"), text)
    labels = {"type": "object", "additionalProperties": text}
    properties |= dict.fromkeys(("commonLabels", "podLabels", "podAnnotations", "nodeSelector"), labels)
    properties |= dict.fromkeys(("affinity", "resources"), _free())
    lists = ("imagePullSecrets", "tolerations", "extraEnv", "extraVolumes", "extraVolumeMounts")
    properties |= dict.fromkeys(lists, _free("array"))
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$comment": "made by `make docs` from the settings' model; do not edit",
        "title": "carp-sidecar",
        **_object(properties),
    }


def text() -> str:
    """Return the file's content."""
    return json.dumps(values(), indent=1) + "\n"


if __name__ == "__main__":
    SCHEMA.write_text(text())
