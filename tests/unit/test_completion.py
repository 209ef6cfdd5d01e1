"""Completion, in a real bash; the scripts for zsh and fish by what they say."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from sidecar.completion import script
from sidecar.usage import COMMANDS, SHELLS, build

COMPLETE = """
source /dev/stdin <<< "$SCRIPT"
COMP_WORDS=(carp-sidecar "$@"); COMP_CWORD=$#
_carp_sidecar
printf '%s\\n' "${COMPREPLY[@]}"
complete -p carp-sidecar >/dev/null
"""


def completed(*words: str, directory: Path | None = None) -> list[str]:
    """Return what bash offers for the last word."""
    bash = shutil.which("bash")
    assert bash is not None
    done = subprocess.run(
        [bash, "--norc", "--noprofile", "-c", COMPLETE, "bash", *words],
        env={"SCRIPT": script("bash"), "PATH": "/usr/bin:/bin"},
        cwd=directory,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["st"], ["status"]),
        (["de"], ["demote", "decode", "demo"]),
        (["--v"], ["--version"]),
        (["status", "--j"], ["--json"]),
        (["status", "--w"], ["--watch"]),
        (["demote", "--"], ["--help", "--reason", "--json", "--runtime-dir"]),
        (["demote", "--reason", ""], []),
        (["completion", ""], ["bash", "zsh", "fish"]),
        (["completion", "z"], ["zsh"]),
        (["sniff", "-i", "l"], ["lo"]),
        (["run", "x"], []),
        (["unknown", "--"], []),
    ],
)
def test_bash(words: list[str], offered: list[str]) -> None:
    assert completed(*words) == offered


def test_bash_completes_commands_with_an_empty_word() -> None:
    assert completed("") == [*(command.name for command in COMMANDS), "--help", "--version"]


def test_bash_completes_files_and_directories_where_they_belong(tmp_path: Path) -> None:
    (tmp_path / "lan.pcap").touch()
    (tmp_path / "folder").mkdir()
    assert sorted(completed("decode", "", directory=tmp_path)) == ["folder", "lan.pcap"]
    assert sorted(completed("decode", "--password-file", "l", directory=tmp_path)) == ["lan.pcap"]
    assert completed("status", "--runtime-dir", "", directory=tmp_path) == ["folder"]


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_knows_every_command_and_option(shell: str) -> None:
    text = script(shell)
    _, parsers = build()
    for name, parser in parsers.items():
        assert name in text
        for action in parser._actions:
            for option in action.option_strings:
                assert (option if shell != "fish" else option.lstrip("-")) in text


@pytest.mark.parametrize(("shell", "check"), [("bash", ["-n"]), ("zsh", ["-n"]), ("fish", ["--no-execute"])])
def test_the_shell_can_read_it(shell: str, check: list[str], tmp_path: Path) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(
            f"NO {shell}, so it does not read its completion: as root on Debian, `make system-packages` installs it"
        )
    file = tmp_path / "script"
    file.write_text(script(shell))
    done = subprocess.run([program, *check, file], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
