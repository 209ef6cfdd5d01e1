"""The command line as one table: what each command does, takes and returns, and how it is used.

The parser, the shells' completion and docs/commands.md are all made from it (``python -m sidecar.usage``).
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from sidecar import __version__

PROGRAM = "carp-sidecar"
SHELLS = ("bash", "zsh", "fish")
_DEFAULT_RUNTIME_DIR = "/run/carp-sidecar"
_WIDTH = 90
_ABOUT = """\
Virtual-IP failover by CARP for bare-metal Kubernetes. Settings come from CARP_* environment
variables and /etc/carp-sidecar/config.yaml; see `carp-sidecar check`."""
_EXITS = "0 done or asked to stop, 1 runtime failure, 2 bad settings or usage, 3 missing privilege"

Options = Callable[[argparse.ArgumentParser], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command. ``summary`` is a line, ``text`` a paragraph, ``examples`` are command lines and their purpose."""

    name: str
    summary: str
    text: str
    exits: str = _EXITS
    examples: tuple[tuple[str, str], ...]
    options: Options = lambda _: None


class Parser(argparse.ArgumentParser):
    """Says a mistake in one line, with what was probably meant."""

    def error(self, message: str) -> NoReturn:
        """Exit with code 2."""
        found = re.search(r"invalid choice: '?([^' ]*)'? \(choose from (.*)\)$", message)
        if found is None:
            self.fail(message)
        choices = re.findall(r"[\w-]+", found[2])
        self.fail(f"{found[1]!r} is none of {', '.join(choices)}", word=found[1], known=choices)

    def fail(self, message: str, *, word: str = "", known: Iterable[str] = ()) -> NoReturn:
        """Exit with code 2 and one line, which ends with the nearest of what is ``known`` if one is near."""
        near = difflib.get_close_matches(word, list(known), n=1)
        hint = f"did you mean {near[0]}?" if near else f"see {self.prog} --help"
        self.exit(2, f"{PROGRAM}: {message}; {hint}\n")


def read(argv: list[str] | None) -> argparse.Namespace:
    """Read a command line. Exits with code 2 and one line where it can't be, with code 0 after --help and --version."""
    top, commands = build()
    arguments, rest = top.parse_known_args(argv)
    if rest:
        parser = commands[arguments.command]
        options = [option for action in parser._actions for option in action.option_strings]
        parser.fail(f"{arguments.command} knows no {rest[0]!r}", word=rest[0].partition("=")[0], known=options)
    return arguments


def build() -> tuple[Parser, dict[str, Parser]]:
    """Return the parser of the whole and those of the commands."""
    top = Parser(
        prog=PROGRAM,
        description=_ABOUT,
        epilog=f"exit codes: {_EXITS}\n\n`{PROGRAM} COMMAND --help` has more on each command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    parsers: dict[str, Parser] = {}
    for command in COMMANDS:
        parser = commands.add_parser(
            command.name,
            help=command.summary,
            description=textwrap.fill(command.text, _WIDTH),
            epilog=_epilog(command),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        command.options(parser)
        parsers[command.name] = parser
    return top, parsers


def _epilog(command: Command) -> str:
    lines = [f"exit codes: {command.exits}", "", "examples:"]
    for line, why in command.examples:
        lines += [f"  {line}", f"      {why}"]
    return "\n".join(lines)


# Options -------------------------------------------------------------------------------------------------------------


def _json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def _runtime_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--runtime-dir",
        type=Path,
        default=Path(os.environ.get("CARP_RUNTIME_DIR") or _DEFAULT_RUNTIME_DIR),
        metavar="DIR",
        help=f"where its control socket is (default: CARP_RUNTIME_DIR or {_DEFAULT_RUNTIME_DIR})",
    )


def _status(parser: argparse.ArgumentParser) -> None:
    _json(parser)
    parser.add_argument(
        "--watch",
        nargs="?",
        type=_seconds,
        const=1.0,
        metavar="SECONDS",
        help="ask again every second, or so often, until Ctrl-C: in place on a terminal, else one block or one line of "
        "JSON after the other",
    )
    _runtime_dir(parser)


def _why(parser: argparse.ArgumentParser) -> None:
    _json(parser)
    _runtime_dir(parser)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds from 0.1 to 3600")
    return seconds


def _demote(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--reason", default="", metavar="TEXT", help="what status and log tell of it")
    _promote(parser)


def _promote(parser: argparse.ArgumentParser) -> None:
    _json(parser)
    _runtime_dir(parser)


def _doctor(parser: argparse.ArgumentParser) -> None:
    _json(parser)
    parser.add_argument(
        "--seconds",
        type=_seconds,
        metavar="SECONDS",
        help="how long to listen to the LAN (default: 4 to 15, by the groups' timing)",
    )


def _sniff(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-i",
        "--interface",
        nargs="+",
        action="extend",
        default=[],
        metavar="IFACE",
        help="listen there (default: all Ethernet interfaces that are up)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per packet instead")
    _secrets(parser)


def _decode(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "inputs", nargs="+", metavar="FILE.pcap|HEX", help="a capture (pcap, pcapng), or one CARP header"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per packet")
    _secrets(parser)


def _secrets(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--vips", metavar="A,B", help="the group's VIPs, which the HMAC covers")
    parser.add_argument(
        "--password-file", metavar="FILE", help="the group's password, to tell whether packets are authentic"
    )


def _demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--no-colour", "--no-color", action="store_true", help="plain text")


def _kubeconfig() -> str:
    usual = Path(os.environ.get("HOME") or "/") / ".kube/config"
    return os.environ.get("KUBECONFIG") or (str(usual) if usual.is_file() else "")


def _rollout(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-n", "--namespace", required=True, metavar="NAME", help="the DaemonSet's namespace")
    parser.add_argument(
        "--daemonset",
        default=PROGRAM,
        metavar="NAME",
        help=f"its name: that of the release, with -{PROGRAM} unless that is in it (default: {PROGRAM})",
    )
    parser.add_argument(
        "--role-label", default="carp-role", metavar="LABEL", help="the label with the roles (default: carp-role)"
    )
    parser.add_argument(
        "--node-timeout",
        type=_seconds,
        default=300.0,
        metavar="SECONDS",
        help="how long a node may take to be ready again and its groups to have a master; then it stops (default: 300)",
    )
    parser.add_argument(
        "--kubeconfig",
        default=_kubeconfig(),
        metavar="FILE",
        help="how to reach the API server (default: KUBECONFIG or ~/.kube/config, in a pod its own account)",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the order and touch nothing")
    parser.add_argument("--json", action="store_true", help="print one JSON object per step")


def _completion(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help="bash, zsh or fish")


# The table -----------------------------------------------------------------------------------------------------------

COMMANDS: tuple[Command, ...] = (
    Command(
        name="run",
        summary="take part in the election and hold the VIP when master (needs NET_ADMIN, NET_RAW)",
        text="Take part in the election of each group, hold the VIPs while this node is master, and mirror the roles "
        "into Kubernetes where it is on. Runs in the foreground and logs to stderr. SIGTERM hands over and ends it, "
        "SIGUSR1 writes the status to the log, SIGUSR2 hands over to whoever stands up.",
        examples=(
            ("CARP_VHID=42 CARP_VIPS=10.0.0.200 CARP_PASSWORD_FILE=/run/secrets/carp carp-sidecar run",
             "one group, its interface found by the VIP's subnet"),
            ("carp-sidecar run", "several groups, by /etc/carp-sidecar/config.yaml"),
        ),
    ),
    Command(
        name="check",
        summary="validate the settings and print the effective ones, secrets masked",
        text="Read the settings as `run` does and print what is in force, secrets masked. Each mistake is one line "
        "that names the setting, the fault and the remedy. Changes nothing and needs no privilege.",
        exits="0 the settings can be used, 2 they can't",
        options=_json,
        examples=(
            ("carp-sidecar check", "what is in force, as YAML, with the timing that follows from it"),
            ("carp-sidecar check --json | jq '.groups[].master_down_seconds'", "when a backup takes over"),
        ),
    ),
    Command(
        name="status",
        summary="ask the running sidecar how its groups stand",
        text="Ask the sidecar that runs on this node how its groups stand: role, since when and why, master, lease, "
        "demotion, peers, what was dropped. In colours on a terminal, unless NO_COLOR is set.",
        exits="0 it has answered, 1 it does not",
        options=_status,
        examples=(
            ("carp-sidecar status", "for people"),
            ("carp-sidecar status --watch", "see a takeover as it happens"),
            ("carp-sidecar status --json | jq -r '.groups[] | .name + \" \" + .role'", "for scripts"),
            ("kubectl exec POD -- carp-sidecar status", "in a pod"),
        ),
    ),
    Command(
        name="why",
        summary="the last changes of the groups' roles, when and why",
        text="Print the last changes of role of this node's groups with their times and reasons, the newest last.",
        exits="0 it has answered, 1 it does not",
        options=_why,
        examples=(
            ("carp-sidecar why", "what happened last night"),
            ("kubectl exec POD -- carp-sidecar why", "in a pod"),
        ),
    ),
    Command(
        name="demote",
        summary="maintenance: have this node's groups yield to nodes that can take over",
        text="Begin maintenance: this node's groups yield to any node that can take over, and go on where there is "
        "none. It holds until `promote`, over restarts for as long as CARP_RUNTIME_DIR keeps its files. The chart's "
        "pods have that in memory: a restarted container goes on with it, a new pod or a reboot of the node ends it. "
        "What holds over those, too, is the node's annotation carp-sidecar/maintenance.",
        exits="0 done, 1 no sidecar answers",
        options=_demote,
        examples=(('carp-sidecar demote --reason "new disks"', "before work on this node"),),
    ),
    Command(
        name="promote",
        summary="end the maintenance",
        text="End the maintenance that `demote` began. Whether this node takes the VIPs back is a matter of its "
        "settings (CARP_PREEMPT).",
        exits="0 done, 1 no sidecar answers",
        options=_promote,
        examples=(("carp-sidecar promote", "after the work"),),
    ),
    Command(
        name="drain",
        summary="hand this node's groups over now, label first, and wait until that is decided",
        text="Have the pods of this node stop saying master, hand each group over to whoever stands up, and wait for "
        "an advert of the new master, for about an interval between adverts and 2 s at most. A group that nobody takes "
        "over goes on here. Unlike `demote` it lasts no longer than that. SIGTERM does the same by itself; this is for "
        "a preStop hook, or by hand.",
        exits="0 no group is left here, 1 nobody has taken over some group, or no sidecar answers",
        options=_promote,
        examples=(
            ("carp-sidecar drain", "before this node is taken away"),
            ("kubectl exec POD -- carp-sidecar drain", "in a pod"),
        ),
    ),
    Command(
        name="doctor",
        summary="whether this node can do what the settings ask, with a remedy for each fault",
        text="Look at this node, its LAN and its rights in Kubernetes for some seconds, before the installation or "
        "after it, and print a line for each check: how it is, and what to do where it is not well. Nothing is "
        "changed, but for a loopback address that lasts a second.",
        exits="0 all is well, 1 something fails, 2 bad usage, 4 there are warnings only",
        options=_doctor,
        examples=(
            ("carp-sidecar doctor", "on a backup it also tells whether the master's adverts arrive"),
            ("carp-sidecar doctor --json | jq -r '.findings[] | select(.remedy) | .check, .remedy'",
             "what there is to do"),
            ("kubectl exec POD -- carp-sidecar doctor", "in a pod"),
        ),
    ),
    Command(
        name="sniff",
        summary="live adverts: who is master of what, authentic or not and why (needs NET_RAW)",
        text="Tell who is master of what on a LAN, CARP groups and VRRP's, ours or not: one line when something is new "
        "or changes, until Ctrl-C. Adverts are verified against the settings' groups or with --password-file.",
        options=_sniff,
        examples=(
            ("carp-sidecar sniff", "all interfaces, with this node's passwords"),
            ("carp-sidecar sniff -i eth0 --json", "one interface, every packet, for machines"),
            ("carp-sidecar sniff -i eth0 --vips 10.0.0.200 --password-file ./secret", "another group"),
        ),
    ),
    Command(
        name="decode",
        summary="explain CARP packets from captures or hex, one line each",
        text="Explain the CARP packets in captures, or single CARP headers in hexadecimal: what they say, and what is "
        "wrong with them. With the password and the VIPs also whether they are authentic.",
        exits="0 all was read, 1 something could not be read, 2 bad usage",
        options=_decode,
        examples=(
            ("carp-sidecar decode lan.pcap", "what was on the wire"),
            ("carp-sidecar decode lan.pcap --vips 10.0.0.200 --password-file ./secret", "and whether it is authentic"),
        ),
    ),
    Command(
        name="demo",
        summary="three nodes and a client in network namespaces: see the VIP move",
        text="Make three nodes, a client and a VIP on this machine, in network namespaces of its own, and show in the "
        "terminal how the VIP moves when things fail. Leaves nothing behind.",
        exits="0 it went as told, 1 it did not, 3 missing privilege",
        options=_demo,
        examples=(("sudo carp-sidecar demo", "takes about a minute"),),
    ),
    Command(
        name="rollout",
        summary="replace the pods of a DaemonSet one at a time, the master last, so that each VIP moves once",
        text="Replace the pods of an OnDelete DaemonSet that are not made from its newest template, one at a time, "
        "those that are master of nothing first, each only when the last is ready for minReadySeconds and every group "
        "has its master again. Before a master goes, those that are not new yet are asked to stand aside, so that its "
        "VIPs go to one that is. Stops where a node does not come back in time and leaves the others as they are; run "
        "it again to go on. The chart's Job runs it after each upgrade and rollback.",
        exits="0 all pods are new, 1 it had to stop, 2 bad usage",
        options=_rollout,
        examples=(
            ("carp-sidecar rollout -n carp --dry-run", "in which order"),
            ("carp-sidecar rollout -n carp --kubeconfig ~/.kube/config", "from a workstation"),
            ("carp-sidecar rollout -n carp --daemonset web-carp-sidecar --json", "the release web, for machines"),
        ),
    ),
    Command(
        name="completion",
        summary="print the completion for a shell",
        text="Print a script that completes commands and options, for bash, zsh or fish.",
        exits="0 printed, 2 bad usage",
        options=_completion,
        examples=(
            ("source <(carp-sidecar completion bash)", "for this shell"),
            ("carp-sidecar completion fish > ~/.config/fish/completions/carp-sidecar.fish", "for ever"),
        ),
    ),
)  # fmt: skip


# The page ------------------------------------------------------------------------------------------------------------

_HEAD = f"""\
# Commands

Made from the table in `sidecar/usage.py` by `make docs`; a test fails where this page and the table differ.
`{PROGRAM} COMMAND --help` prints the same. In a pod: `kubectl exec POD -- {PROGRAM} ...`.

A mistake in the usage is one line on stderr, with what was probably meant.

"""


def markdown() -> str:
    """Return the page of the documentation."""
    _, parsers = build()
    text = _HEAD + "".join(f"- [`{each.name}`](#{each.name}): {each.summary}\n" for each in COMMANDS)
    for command in COMMANDS:
        text += f"\n## {command.name}\n\n{command.text}\n\n"
        rows = list(_rows(parsers[command.name]))
        if rows:
            text += "| option | meaning |\n|---|---|\n" + "".join(rows) + "\n"
        text += f"Exit codes: {command.exits}.\n\n```sh\n"
        text += "".join(f"{line}  # {why}\n" for line, why in command.examples) + "```\n"
    return text


def _rows(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        if action.dest == "help":
            continue
        name = ", ".join(action.option_strings) or str(action.metavar)
        if action.option_strings and action.metavar:
            name += f" [{action.metavar}]" if action.nargs == "?" else f" {action.metavar}"
        name = name.replace("|", "\\|")
        yield f"| `{name}` | {action.help} |\n"


if __name__ == "__main__":
    sys.stdout.write(markdown())
