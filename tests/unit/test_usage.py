"""The command line: help as a manual has it, and mistakes that are told with what was meant."""

from __future__ import annotations

import re
import shlex

import pytest

from sidecar.usage import COMMANDS, build, markdown, read


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return the one line that is said of a wrong command line."""
    with pytest.raises(SystemExit) as ended:
        read(list(arguments))
    said = capsys.readouterr()
    assert (ended.value.code, said.out) == (2, "")
    (line,) = said.err.splitlines()
    return line


def helped(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        read([*arguments, "--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["stauts"], "'stauts' is none of run, check, status, .*; did you mean status\\?"),
        (["frobnicate"], "'frobnicate' is none of .*; see carp-sidecar --help"),
        (["status", "--jsno"], "status knows no '--jsno'; did you mean --json\\?"),
        (["status", "--runtime-dri=/x"], "status knows no '--runtime-dri=/x'; did you mean --runtime-dir\\?"),
        (["status", "--js"], "status knows no '--js'; did you mean --json\\?"),
        (["check", "--frobnicate"], "check knows no '--frobnicate'; see carp-sidecar check --help"),
        (["run", "now"], "run knows no 'now'; see carp-sidecar run --help"),
        (["completion", "fihs"], "'fihs' is none of bash, zsh, fish; did you mean fish\\?"),
        (["decode"], "the following arguments are required: .*; see carp-sidecar decode --help"),
        ([], "the following arguments are required: COMMAND; see carp-sidecar --help"),
        (["status", "--watch", "0"], ".*'0' is no number of seconds from 0.1 to 3600; see carp-sidecar status --help"),
        (["status", "--watch", "soon"], ".*'soon' is no number of seconds .*"),
        (["status", "--watch", "nan"], ".*'nan' is no number of seconds .*"),
    ],
)
def test_a_mistake_is_one_line_with_what_was_meant(
    capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert re.fullmatch(f"carp-sidecar: {words}".replace("\\\\\\\\", "\\\\"), refused(capsys, *arguments))


def test_watch_takes_a_number_of_seconds_or_a_second() -> None:
    assert read(["status"]).watch is None
    assert read(["status", "--watch"]).watch == 1.0
    assert read(["status", "--watch", "0.5", "--json"]).watch == 0.5


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_each_command_says_what_it_does_its_exit_codes_and_examples(
    capsys: pytest.CaptureFixture[str], command: object
) -> None:
    (known,) = [each for each in COMMANDS if each is command]
    text = helped(capsys, known.name)
    assert known.text in " ".join(text.split())
    assert f"exit codes: {known.exits}" in text
    assert known.examples
    for line, why in known.examples:
        assert line in text
        assert why in text


def test_the_examples_are_command_lines_that_it_understands() -> None:
    for command in COMMANDS:
        for line, _ in command.examples:
            (used,) = re.findall(r"carp-sidecar ((?:(?! \||\)|>).)*)", line.replace("carp-sidecar.fish", ""))
            assert read(shlex.split(used)).command == command.name


def test_each_option_has_a_help() -> None:
    _, parsers = build()
    for parser in parsers.values():
        for action in parser._actions:
            assert action.help


def test_the_page_names_each_command_and_each_option() -> None:
    page = markdown()
    _, parsers = build()
    for name, parser in parsers.items():
        assert f"\n## {name}\n" in page
        for action in parser._actions:
            if action.dest != "help":
                assert all(f"{option}" in page for option in action.option_strings)
