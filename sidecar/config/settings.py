"""The only reader of the environment: settings from it and from the file, as one Plan.

``load`` is start-up's one question; everything that is wrong comes back at once, as the lines of a SettingsError.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict

from sidecar.config import document, values
from sidecar.config.fields import remedy_of
from sidecar.config.file import File, read_file
from sidecar.config.layers import Layer, Problems, State, check, nearest, overlay, values_of
from sidecar.config.model import (
    DEFAULT_CONFIG_FILE,
    ENV_PREFIX,
    GlobalKeys,
    Interface,
    Settings,
    SettingsError,
    env_name,
    remedy,
)
from sidecar.config.probes import ProbeKeys
from sidecar.config.resolve import Group, cautions, groups, health_of, place, plan_of, refuse_clashes
from sidecar.ipc.plan import KubernetesPlan, Plan, ProbeKind
from sidecar.live.stamp import stamp

_LABEL_NAME_AT_MOST = 63
_IN_A_POD = "KUBERNETES_SERVICE_HOST"
_MAKE_EXECUTABLE = "make it executable: chmod +x, or defaultMode: 0755 where it comes from a ConfigMap"

_FIELDS = {env_name(field): field for field in Settings.model_fields}

_INJECTED = re.compile(
    r"CARP_(?:[A-Z0-9_]+_)?"
    r"(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?|PORT(?:_[0-9]+_(?:TCP|UDP|SCTP)(?:_(?:ADDR|PORT|PROTO))?)?)"
)
"""What Kubernetes gives every container about a Service named carp or carp-something (``makeEnvVariableName`` and
``makeLinkVariables``, pkg/kubelet/envvars)."""

_FOR_CHILDREN = re.compile(
    r"PATH|HOME|LANG|LANGUAGE|LC_[A-Z]+|TZ|LD_LIBRARY_PATH|PYTHON(?:PATH|HOME|UNBUFFERED|DONTWRITEBYTECODE)"
    r"|SSL_CERT_(?:FILE|DIR)|(?:HTTPS?|NO)_PROXY|(?:https?|no)_proxy|KUBERNETES_SERVICE_(?:HOST|PORT)|KUBECONFIG"
    r"|RES_OPTIONS"
)
_DEFAULTS_FOR_CHILDREN = {"RES_OPTIONS": "timeout:1 attempts:2"}
"""The C library waits 5 s for each answer that a name server owes, and so would the mirror once it is back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """Valid settings: the plan for the processes, and what ``check`` shows beside it.

    ``warnings`` is one line each. ``config_file`` is the file that was read, or None. ``password_files`` has, by
    group, the path of each password that came from a file.
    """

    plan: Plan
    warnings: tuple[str, ...]
    config_file: str | None
    password_files: Mapping[str, str]


class _Names(Settings, BaseSettings):
    """The environment's names for the settings, for ``_Source``; never instantiated."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX)


class _Source(EnvSettingsSource):
    """Reads ``environ`` and not the process's own environment behind the caller's back."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        super().__init__(_Names)
        # Exact names only: the source itself would take carp_vhid for CARP_VHID.
        self.env_vars = {name.lower(): environ[name] for name in _FIELDS if name in environ}

    def prepare_field_value(self, field_name: str, field: FieldInfo, value: Any, value_is_complex: bool) -> Any:  # noqa: ANN401, ARG002
        """Leave lists as text with commas, where pydantic-settings would read JSON."""
        return value

    def __call__(self) -> dict[str, Any]:
        return {_FIELDS.get(key, key): value for key, value in super().__call__().items()}


def load(
    environ: Mapping[str, str],
    *,
    interfaces: Callable[[], Sequence[Interface]],
    hostname: Callable[[], str] = socket.gethostname,
    default_config_file: str = DEFAULT_CONFIG_FILE,
) -> Loaded:
    """Return the settings of this node. ``interfaces`` is called once and tells its network interfaces.

    Raises SettingsError with every mistake in the environment, the file, the password files and this node's addresses.
    """
    problems = Problems()
    environment = _environment(environ, problems)
    node = _value(environment, "node_name") or hostname()
    named = _value(environment, "config_file")
    files = {path: stamp(path) for path in (named or default_config_file,)}
    file = _file(environment, node=node, default=default_config_file, problems=problems)
    if file is None:  # whatever is missing now may be in there
        raise SettingsError(problems.lines, files=files)
    every = groups(file, environment, problems)
    here = tuple(interfaces())
    placed = [place(group, here, problems) for group in every]
    password_files = {group.name: path for group in every if (path := group.keys.password_file) is not None}
    files |= {path: stamp(path) for path in password_files.values()}
    passwords = [_passwords(group, problems) for group in every]
    refuse_clashes(placed, problems)
    for group in every:
        _check_commands(group, problems)
    shared = overlay([file.top, environment])
    kubernetes = _kubernetes(shared, every, environ=environ, problems=problems)
    if kubernetes is None:
        for group in every:
            _refuse_questions_to_kubernetes(group, problems)
    plans = [plan_of(each, given) for each, given in zip(placed, passwords, strict=True)]
    if problems.lines:
        raise SettingsError(problems.lines, files=files)
    keys = GlobalKeys.model_construct(None, **_only(GlobalKeys, shared))
    return Loaded(
        plan=Plan(
            node_name=node,
            realtime=keys.realtime,
            runtime_dir=keys.runtime_dir,
            log_level=keys.log_level,
            log_format=keys.log_format,
            groups=tuple(plan for plan in plans if plan is not None),
            kubernetes=kubernetes,
            http_listen=_http_listen(keys, shared),
            pod=_pod(environment),
            files=files,
            health=health_of(placed),
        ),
        warnings=tuple(
            dict.fromkeys(line for each, given in zip(placed, passwords, strict=True) for line in cautions(each, given))
        ),
        config_file=file.path or None,
        password_files=password_files,
    )


def environment_for_children(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the part of ``environ`` that the long-lived processes get: no setting, no secret."""
    return _DEFAULTS_FOR_CHILDREN | {name: value for name, value in environ.items() if _FOR_CHILDREN.fullmatch(name)}


def environment_of_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the part of ``environ`` that ``load`` looks at."""
    return {
        name: value
        for name, value in environ.items()
        if name in _FIELDS or name.startswith(ENV_PREFIX) or name == _IN_A_POD
    }


def _environment(environ: Mapping[str, str], problems: Problems) -> Layer:
    layer = check(Settings, _Source(environ)(), labels=env_name, problems=problems)
    for name in sorted(environ):
        if name.startswith(ENV_PREFIX) and name not in _FIELDS and not _INJECTED.fullmatch(name):
            label = name if re.fullmatch(r"\w+", name, re.ASCII) else values.show(name)
            problems.add(label, "unknown setting", nearest(name, _FIELDS))
    return layer


def _file(environment: Layer, *, node: str, default: str, problems: Problems) -> File | None:
    if "config_file" in environment and environment["config_file"].state is State.WRONG:
        return None
    named = _value(environment, "config_file")
    path = named or default
    label = env_name("config_file")
    try:
        with Path(path).open("rb") as stream:
            data = stream.read(document.BYTES_AT_MOST + 1)
    except FileNotFoundError:
        if not named:
            return File()
        problems.add(label, f"{values.show(path)} does not exist", remedy("config_file"))
        return None
    except OSError as error:
        problems.add(label, f"{values.show(path)} cannot be read: {error.strerror}", "make it a readable file")
        return None
    try:
        content = document.parse(data)
    except document.DocumentError as error:
        problems.add_line(path, str(error))
        return None
    return read_file(content, path=path, node=node, problems=problems)


def _passwords(group: Group, problems: Problems) -> tuple[bytes, ...]:
    keys = group.keys
    states = {group.state("password"), group.state("password_file")}
    if State.WRONG in states:
        return ()
    if keys.password is not None:
        return (keys.password.get_secret_value().encode(),)
    if keys.password_file is not None:
        return _passwords_from(keys.password_file, group.label("password_file"), problems)
    for key in ("password", "password_file"):
        if group.state(key) is State.EMPTY:
            problems.add(group.label(key), "is empty", remedy(key))
            return ()
    fault = f"not set, nor is {group.label('password').rpartition('.')[2]}"
    problems.add(group.label("password_file"), fault, remedy("password_file"))
    return ()


def _passwords_from(path: str, label: str, problems: Problems) -> tuple[bytes, ...]:
    """Return the passwords of a file, one a line; empty lines count for nothing."""
    try:
        with Path(path).open("rb") as stream:
            content = stream.read(document.BYTES_AT_MOST)
    except OSError as error:
        problems.add(label, f"{values.show(path)} cannot be read: {error.strerror}", remedy("password_file"))
        return ()
    lines = [line.removesuffix(b"\r") for line in content.split(b"\n")]
    secrets = [(number, line) for number, line in enumerate(lines, 1) if line] or [(1, b"")]
    try:
        values.how_many_passwords(len(secrets))
        for number, secret in secrets:
            where = f"line {number} " if len(secrets) > 1 else ""
            values.password(secret, where=where)
    except values.FaultError as fault:
        problems.add(label, f"{values.show(path)} {fault.fault}", remedy("password"))
        return ()
    return tuple(dict.fromkeys(secret for _, secret in secrets))


def _check_commands(group: Group, problems: Problems) -> None:
    """Report commands that cannot be run, so that nobody learns of it in a failover."""
    commands = {
        group.label(field): (getattr(group.keys, field), remedy(field)) for field in ("up_command", "down_command")
    }
    for index, probe in enumerate(group.keys.health):
        commands[f"{group.label('health')}[{index}].exec"] = probe.exec, remedy_of(ProbeKeys, "exec")
    for label, (command, cure) in commands.items():
        if not command:
            continue
        program = command[0]
        if not _is_file(program):
            problems.add(label, f"{values.show(program)} is no file", cure)
        elif not os.access(program, os.X_OK):
            problems.add(label, f"{values.show(program)} is not executable", _MAKE_EXECUTABLE)


def _refuse_questions_to_kubernetes(group: Group, problems: Problems) -> None:
    for index, probe in enumerate(group.keys.health):
        for kind in (ProbeKind.CONTAINER, ProbeKind.NODE_CONDITION):
            if kind in probe.kinds:
                label = f"{group.label('health')}[{index}].{kind}"
                cure = f"set {env_name('kubernetes')}=on, or leave this probe out"
                problems.add(label, "asks Kubernetes, which this sidecar does not speak to", cure)


def _kubernetes(
    shared: Layer, every: Sequence[Group], *, environ: Mapping[str, str], problems: Problems
) -> KubernetesPlan | None:
    keys = Settings.model_construct(None, **values_of(shared))
    in_pod = bool(environ.get(_IN_A_POD))
    reachable = in_pod or keys.kubeconfig is not None
    if keys.kubernetes == "off" or (keys.kubernetes == "auto" and not reachable):
        return None
    mode = shared["kubernetes"].label if "kubernetes" in shared else env_name("kubernetes")
    if not reachable:
        problems.add(mode, "on, but this is no pod and KUBECONFIG is not set", "set KUBECONFIG, or set it to off")
    if keys.kubeconfig is not None and not _is_file(keys.kubeconfig):
        problems.add(env_name("kubeconfig"), f"{values.show(keys.kubeconfig)} is no file", remedy("kubeconfig"))
    for field in ("pod_name", "pod_namespace"):
        if field not in shared or shared[field].state is State.EMPTY:
            fault = f"not set, and the mirror into Kubernetes ({mode}: {keys.kubernetes}) needs it"
            problems.add(env_name(field), fault, f"{remedy(field)}, or set {env_name('kubernetes')}=off")
    _check_label(keys.role_label, every, shared=shared, problems=problems)
    for field in ("endpoint_slice", "load_balancer_class"):
        _refuse_shared(field, every, problems)
    return KubernetesPlan(
        pod_name=keys.pod_name or "",
        pod_namespace=keys.pod_namespace or "",
        role_label=keys.role_label,
        kubeconfig=keys.kubeconfig or "",
        readiness_condition=keys.readiness_condition,
        lease_witness=keys.lease_witness,
        events=keys.events,
        node_events=keys.node_events,
        node_annotations=keys.node_annotations,
        cordon=keys.cordon,
    )


def _refuse_shared(field: str, every: Sequence[Group], problems: Problems) -> None:
    """Report what only one group can own: the masters of two would overwrite each other for ever."""
    owners: dict[str, str] = {}
    for group in every:
        value = getattr(group.keys, field)
        other = owners.setdefault(value, group.name) if value else group.name
        if other != group.name:
            fault = f"{value} belongs to group {other!r} already"
            problems.add(group.label(field), fault, "name each in one group only")


def _is_file(path: str) -> bool:
    try:
        return Path(path).is_file()
    except OSError:
        return False


def _check_label(role_label: str, every: Sequence[Group], *, shared: Layer, problems: Problems) -> None:
    longest = max((group.name for group in every), key=len, default="")
    name = f"{role_label.rpartition('/')[2]}-{longest}"
    if len(every) > 1 and len(name) > _LABEL_NAME_AT_MOST:
        label = shared["role_label"].label if "role_label" in shared else env_name("role_label")
        problems.add(
            label,
            f"with the group's name it becomes {name}, {len(name)} characters long",
            f"shorten it or the name, a Kubernetes label takes {_LABEL_NAME_AT_MOST}",
        )


def _value(layer: Layer, field: str) -> str | None:
    setting = layer.get(field)
    return setting.value if setting is not None and setting.state is State.GIVEN else None


def _pod(environment: Layer) -> str:
    namespace, name = (_value(environment, field) for field in ("pod_namespace", "pod_name"))
    return f"{namespace}/{name}" if namespace and name else ""


def _http_listen(keys: GlobalKeys, shared: Layer) -> str:
    """Return where to listen, or "". Unlike with other settings, an empty value means something: not there."""
    empty = "http_listen" in shared and shared["http_listen"].state is State.EMPTY
    return "" if empty or keys.http_listen == values.HTTP_OFF else keys.http_listen


def _only(model: type[GlobalKeys], layer: Layer) -> dict[str, Any]:
    return {name: value for name, value in values_of(layer).items() if name in model.model_fields}
