"""The command ``carp-sidecar``: what each command of the table in ``sidecar.usage`` does.

Exit codes: 0 done or asked to stop, 1 runtime failure, 2 bad settings or usage, 3 missing privilege.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from sidecar import usage

if TYPE_CHECKING:
    from sidecar.config.settings import Loaded

EXIT_FAILED, EXIT_SETTINGS = 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code."""
    arguments = usage.read(None if argv is None else list(argv))
    try:
        return _dispatch(arguments)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read the output has had enough; keep the interpreter's own flush at exit from complaining.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _dispatch(arguments: argparse.Namespace) -> int:
    match arguments.command:
        case "run":
            code = _run()
        case "check":
            code = _check(as_json=arguments.json)
        case "status":
            code = _status(as_json=arguments.json, directory=arguments.runtime_dir, every=arguments.watch)
        case "why":
            code = _why(as_json=arguments.json, directory=arguments.runtime_dir)
        case "demote" | "promote" as command:
            reason = arguments.reason if command == "demote" else None
            code = _maintain(reason=reason, directory=arguments.runtime_dir, as_json=arguments.json)
        case "drain":
            code = _drain(directory=arguments.runtime_dir, as_json=arguments.json)
        case "doctor":
            code = _doctor(arguments)
        case "decode":
            code = _decode(arguments)
        case "sniff":
            code = _sniff(arguments)
        case "rollout":
            code = _rollout(arguments)
        case "completion":
            code = _completion(arguments.shell)
        case _:
            code = _demo(arguments)
    return code


def _run() -> int:
    # As PID 1 a SIGTERM that comes before its handler would be lost, and SIGUSR1 would end whoever is not PID 1: they
    # wait until the parent is ready for them.
    held_back = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2}
    signal.pthread_sigmask(signal.SIG_BLOCK, held_back)
    loaded = _load()
    if loaded is None:
        return EXIT_SETTINGS
    _warn(loaded)
    return _become_parent(loaded)


def _become_parent(loaded: Loaded) -> NoReturn:
    """Go on as the parent, by exec in the same process.

    What start-up imported is gone then, and so are the settings and the password from the environment that /proc shows:
    they go on in a memory file, for when a file of settings changes.
    """
    from sidecar.config import settings  # noqa: PLC0415 - only start-up needs pydantic
    from sidecar.ipc.plan import encode_plan  # noqa: PLC0415 - as above
    from sidecar.live.environment import seal  # noqa: PLC0415 - as above

    fd = os.memfd_create("plan", 0)
    with os.fdopen(os.dup(fd), "wb") as file:
        file.write(encode_plan(loaded.plan))
    os.lseek(fd, 0, os.SEEK_SET)
    sealed = seal(settings.environment_of_settings(os.environ))
    command = [sys.executable, "-P", "-m", "sidecar", "parent", str(fd), str(sealed)]
    os.execve(sys.executable, command, settings.environment_for_children(os.environ))  # noqa: S606 - our own interpreter


def _warn(loaded: Loaded) -> None:
    for warning in loaded.warnings:
        print(f"carp-sidecar: warning: {warning}", file=sys.stderr, flush=True)


def _check(*, as_json: bool) -> int:
    loaded = _load()
    if loaded is None:
        return EXIT_SETTINGS
    from sidecar.config.effective import effective, effective_dict  # noqa: PLC0415 - only this command needs it

    _warn(loaded)
    leases = _leases(loaded)
    if as_json:
        import json  # noqa: PLC0415 - as above

        print(json.dumps(effective_dict(loaded, leases), indent=2))
    else:
        print(effective(loaded, leases), end="")
    return 0


def _leases(loaded: Loaded) -> dict[str, str]:
    """Return how this node's kernel would hold each group's VIPs, in words."""
    from sidecar.net.cutoff import Cutoff, tick_ms  # noqa: PLC0415 - as above
    from sidecar.net.lease import terms  # noqa: PLC0415 - as above

    with Cutoff("check") as cutoff:
        unavailable = cutoff.available()
    groups = loaded.plan.groups
    return {group.name: str(terms(group, unavailable=unavailable, tick_ms=tick_ms())) for group in groups}


def _load(*, complain: bool = True) -> Loaded | None:
    from sidecar.config.model import SettingsError  # noqa: PLC0415 - only start-up needs pydantic

    try:
        return _read_settings()
    except SettingsError as error:
        for line in error.lines if complain else ():
            print(f"carp-sidecar: {line}", file=sys.stderr)
        return None


def _read_settings() -> Loaded:
    """Return the settings of this node. Raises SettingsError."""
    from sidecar.startup import load  # noqa: PLC0415 - as above

    return load(os.environ)


def _doctor(arguments: argparse.Namespace) -> int:
    from sidecar.doctor import command  # noqa: PLC0415 - only this command needs it

    return command.run(_read_settings, seconds=arguments.seconds, as_json=arguments.json, out=sys.stdout)


def _status(*, as_json: bool, directory: Path, every: float | None) -> int:
    from sidecar.control import ControlError, ask_status  # noqa: PLC0415 - only this command needs it
    from sidecar.observe.colour import palette  # noqa: PLC0415 - as above
    from sidecar.observe.status import as_json_text, as_text  # noqa: PLC0415 - as above

    paint = palette(terminal=sys.stdout.isatty(), environment=os.environ)

    def ask() -> str:
        reply = ask_status(directory)
        return as_json_text(reply, indent=0 if every else 2) if as_json else as_text(reply, paint)

    try:
        told = ask()
    except ControlError as error:
        print(f"carp-sidecar: {error}", file=sys.stderr)
        return EXIT_FAILED
    if every is None:
        print(told)
    else:
        _watch(ask, every=every, as_json=as_json)
    return 0


def _why(*, as_json: bool, directory: Path) -> int:
    from sidecar.control import ControlError, ask_status  # noqa: PLC0415 - only this command needs it
    from sidecar.observe.why import as_json_text, as_text  # noqa: PLC0415 - as above

    try:
        reply = ask_status(directory)
    except ControlError as error:
        print(f"carp-sidecar: {error}", file=sys.stderr)
        return EXIT_FAILED
    print(as_json_text(reply) if as_json else as_text(reply))
    return 0


def _watch(ask: Callable[[], str], *, every: float, as_json: bool) -> None:
    from sidecar.control import ControlError  # noqa: PLC0415 - only this command needs it
    from sidecar.observe.moment import rfc3339  # noqa: PLC0415 - as above
    from sidecar.watch import watch  # noqa: PLC0415 - as above

    in_place = sys.stdout.isatty() and not as_json

    def block() -> str | None:
        try:
            told = ask()
        except ControlError as error:  # it may be about to start anew
            told = f"carp-sidecar: {error}"
            if not in_place:
                print(told, file=sys.stderr, flush=True)
                return None
        return told if as_json else f"{rfc3339(time.time())}\n{told}\n"

    watch(block, out=sys.stdout, in_place=in_place, every=every)


def _maintain(*, reason: str | None, directory: Path, as_json: bool) -> int:
    from sidecar.control import ControlError, ask_maintenance  # noqa: PLC0415 - only these commands need it
    from sidecar.maintenance import one_line  # noqa: PLC0415 - as above

    try:
        done = ask_maintenance(directory, reason=None if reason is None else one_line(reason))
    except ControlError as error:
        print(f"carp-sidecar: {error}", file=sys.stderr)
        return EXIT_FAILED
    if as_json:
        import json  # noqa: PLC0415 - as above

        print(json.dumps({"done": done}))
    else:
        print(done)
    return 0


def _drain(*, directory: Path, as_json: bool) -> int:
    from sidecar.control import ControlError, ask_drain  # noqa: PLC0415 - only this command needs it

    try:
        done = ask_drain(directory)
    except ControlError as error:
        print(f"carp-sidecar: {error}", file=sys.stderr)
        return EXIT_FAILED
    if as_json:
        import json  # noqa: PLC0415 - as above

        print(json.dumps({"taken": done.taken, "left": done.left}))
    elif not done.taken and not done.left:
        print("nothing to hand over: this node is master of no group")
    else:
        for group, detail in done.taken.items():
            print(f"{group}: handed over: {detail}")
        for group in done.left:
            print(f"{group}: nobody has taken over; this node goes on")
    return EXIT_FAILED if done.left else 0


def _completion(shell: str) -> int:
    from sidecar.completion import script  # noqa: PLC0415 - only this command needs it

    print(script(shell), end="")
    return 0


def _decode(arguments: argparse.Namespace) -> int:
    from sidecar import decode  # noqa: PLC0415 - only this command needs it

    return decode.run(
        inputs=arguments.inputs,
        as_json=arguments.json,
        vips=arguments.vips,
        password_file=arguments.password_file,
        out=sys.stdout,
        err=sys.stderr,
    )


def _sniff(arguments: argparse.Namespace) -> int:
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    try:
        from sidecar import sniff  # noqa: PLC0415 - only this command needs it

        loaded = _load(complain=False) if arguments.password_file is None else None
        return sniff.run(
            interfaces=arguments.interface,
            as_json=arguments.json,
            vips=arguments.vips,
            password_file=arguments.password_file,
            groups=loaded.plan.groups if loaded is not None else (),
            out=sys.stdout,
            err=sys.stderr,
        )
    except KeyboardInterrupt:  # while it was starting
        return 0
    finally:
        signal.signal(signal.SIGTERM, before)


def _rollout(arguments: argparse.Namespace) -> int:
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # which ends a PID 1, too
    try:
        from sidecar.rollout import command  # noqa: PLC0415 - only this command needs it

        asked = command.Asked(
            namespace=arguments.namespace,
            daemonset=arguments.daemonset,
            role_label=arguments.role_label,
            kubeconfig=arguments.kubeconfig,
            patience=arguments.node_timeout,
            dry_run=arguments.dry_run,
            as_json=arguments.json,
        )
        return command.run(asked, out=sys.stdout, err=sys.stderr)
    finally:
        signal.signal(signal.SIGTERM, before)


def _demo(arguments: argparse.Namespace) -> int:
    from sidecar import demo  # noqa: PLC0415 - only this command needs it

    return demo.main(colour=not arguments.no_colour)
