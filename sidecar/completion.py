"""What a shell completes: the commands, their options, and files or interfaces where an option takes one. Pure."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sidecar.usage import COMMANDS, PROGRAM, build

_FILES, _DIRECTORIES, _INTERFACES = "files", "directories", "interfaces"
_TAKES = {"FILE": _FILES, "FILE.pcap|HEX": _FILES, "DIR": _DIRECTORIES, "IFACE": _INTERFACES}


@dataclass(frozen=True, slots=True)
class Option:
    """An option, or an argument without a name. ``takes`` is what its value is: one of the words above, or choices."""

    names: tuple[str, ...]
    help: str
    takes: str | tuple[str, ...] | None


def script(shell: str) -> str:
    """Return the completion script for bash, zsh or fish."""
    _, parsers = build()
    options = {name: list(_options(parser)) for name, parser in parsers.items()}
    match shell:
        case "bash":
            return _bash(options)
        case "zsh":
            return _zsh(options)
        case _:
            return _fish(options)


def _options(parser: argparse.ArgumentParser) -> Iterator[Option]:
    for action in parser._actions:
        takes: str | tuple[str, ...] | None = None
        if action.choices is not None:
            takes = tuple(action.choices)
        elif action.nargs != 0:
            takes = _TAKES.get(str(action.metavar), "")
        yield Option(tuple(action.option_strings), action.help or "", takes)


def _bash(options: Mapping[str, list[Option]]) -> str:
    cases = ""
    for command, known in options.items():
        names = " ".join(name for option in known for name in option.names)
        after = "".join(
            f"            {'|'.join(option.names)}) {_bash_value(option.takes)}; return ;;\n"
            for option in known
            if option.names and option.takes is not None
        )
        rest = next((option.takes for option in known if not option.names), None)
        cases += f"        {command})\n"
        if after:
            cases += f'            case "$before" in\n{_indented(after)}            esac\n'
        cases += f'            if [[ $word == -* ]]; then COMPREPLY=($(compgen -W "{names}" -- "$word"))\n'
        cases += f"            else {_bash_value(rest)}; fi ;;\n" if rest else "            fi ;;\n"
    return f"""\
# bash completion for {PROGRAM}; made by `{PROGRAM} completion bash`
_{_function()}() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}}
    COMPREPLY=()
    if ((COMP_CWORD == 1)); then
        COMPREPLY=($(compgen -W "{" ".join(options)} --help --version" -- "$word"))
        return
    fi
    case "${{COMP_WORDS[1]}}" in
{cases}    esac
}}
complete -o filenames -F _{_function()} {PROGRAM}
"""


def _bash_value(takes: str | tuple[str, ...] | None) -> str:
    match takes:
        case "files":
            return 'COMPREPLY=($(compgen -f -- "$word"))'
        case "directories":
            return 'COMPREPLY=($(compgen -d -- "$word"))'
        case "interfaces":
            return 'COMPREPLY=($(compgen -W "$(ls /sys/class/net)" -- "$word"))'
        case tuple():
            return f'COMPREPLY=($(compgen -W "{" ".join(takes)}" -- "$word"))'
        case _:
            return "COMPREPLY=()"


def _zsh(options: Mapping[str, list[Option]]) -> str:
    summaries = {command.name: command.summary for command in COMMANDS}
    commands = "".join(f"        {_quoted(f'{name}:{summaries[name]}')}\n" for name in options)
    cases = ""
    for command, known in options.items():
        specs = "".join(f" \\\n                {spec}" for option in known for spec in _zsh_specs(option))
        cases += f"            {command}) _arguments{specs} ;;\n"
    return f"""\
#compdef {PROGRAM}
# zsh completion for {PROGRAM}; made by `{PROGRAM} completion zsh`
_{_function()}() {{
    local -a commands=(
{commands}    )
    _arguments -C '1:command:->command' '*::argument:->argument'
    case $state in
    command) _describe command commands ;;
    argument)
        case $words[1] in
{cases}        esac ;;
    esac
}}
if [[ $funcstack[1] == _{_function()} ]]; then _{_function()} "$@"; else compdef _{_function()} {PROGRAM}; fi
"""


def _zsh_specs(option: Option) -> Iterator[str]:
    value = ""
    match option.takes:
        case "files":
            value = ":file:_files"
        case "directories":
            value = ":directory:_files -/"
        case "interfaces":
            value = ":interface:_net_interfaces"
        case tuple():
            value = f":value:({' '.join(option.takes)})"
        case "":
            value = ":value: "
    if not option.names:
        yield _quoted(f"*{value}")
    about = option.help.replace("[", r"\[").replace("]", r"\]").replace(":", r"\:")
    for name in option.names:
        yield _quoted(f"{name}[{about}]{value}")


def _fish(options: Mapping[str, list[Option]]) -> str:
    summaries = {command.name: command.summary for command in COMMANDS}
    lines = [
        f"# fish completion for {PROGRAM}; made by `{PROGRAM} completion fish`",
        f"complete -c {PROGRAM} -f",
        *(
            f"complete -c {PROGRAM} -n __fish_use_subcommand -a {name} -d {_quoted(summaries[name])}"
            for name in options
        ),
    ]
    for command, known in options.items():
        here = f"complete -c {PROGRAM} -n '__fish_seen_subcommand_from {command}'"
        for option in known:
            words = [f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names]
            lines.append(" ".join([here, *words, *_fish_value(option), "-d", _quoted(option.help)]))
    return "\n".join(lines) + "\n"


def _fish_value(option: Option) -> list[str]:
    needs = ["-r"] if option.names else []
    match option.takes:
        case None:
            return []
        case "files":
            return [*needs, "-F"]
        case "directories":
            return [*needs, "-a '(__fish_complete_directories)'"]
        case "interfaces":
            return [*needs, "-a '(command ls /sys/class/net)'"]
        case tuple():
            return [*needs, "-a", _quoted(" ".join(option.takes))]
        case _:
            return needs


def _function() -> str:
    return PROGRAM.replace("-", "_")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _indented(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.splitlines())
