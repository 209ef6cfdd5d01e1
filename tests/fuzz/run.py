"""Coverage-guided fuzzing with atheris: ``make fuzz``. Each target for FUZZ_SECONDS; what breaks one is kept as a file.

``python -m tests.fuzz.run TARGET FILE`` shows again what a kept file does.
"""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
STATE = ROOT / "build" / "fuzz"
"""Corpora that grow from run to run, and what broke a target."""
OPTIONS = ("-timeout=20", "-rss_limit_mb=3000", "-max_len=4096", "-print_final_stats=1", "-verbosity=0")
"""A run that takes 20 s or 3000 MB is a find, too."""


def main(arguments: list[str]) -> int:
    """Fuzz every target in a process of its own; or, given a target, be that process."""
    if arguments:
        return _fuzz(arguments[0], arguments[1:])
    from tests.fuzz.targets import TARGETS  # noqa: PLC0415 - the other branch has to load it instrumented

    seconds = os.environ.get("FUZZ_SECONDS", "60")
    broken = [name for name in os.environ.get("FUZZ_TARGETS", " ".join(TARGETS)).split() if not _run(name, seconds)]
    for name in broken:
        kept = ", ".join(str(path.relative_to(ROOT)) for path in sorted((STATE / name).glob("*-*")))
        print(f"{name} is broken by {kept}; `python -m tests.fuzz.run {name} FILE` shows it again, and a copy in")
        print(f"tests/fuzz/kept/{name}/ makes it part of the tests")
    return 1 if broken else 0


def _run(name: str, seconds: str) -> bool:
    from tests.fuzz.corpus import SEEDS, words  # noqa: PLC0415

    folder = STATE / name
    corpus, seeds = folder / "corpus", folder / "seeds"
    for each in (corpus, seeds):
        each.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(SEEDS[name]()):
        (seeds / f"{number:03}").write_bytes(seed)
    dictionary = folder / "words"
    dictionary.write_text("".join(f'"{word}"\n' for word in words()))
    command = [sys.executable, "-m", __spec__.name, name, f"-max_total_time={seconds}", f"-dict={dictionary}"]
    command += [f"-artifact_prefix={folder}/", *OPTIONS, str(corpus), str(seeds)]
    log = folder / "log"
    with log.open("wb") as out:
        sound = subprocess.run(command, cwd=ROOT, check=False, stdout=out, stderr=out).returncode == 0
    told = log.read_text(errors="replace")
    numbers = dict(re.findall(r"stat::(\w+): +(\d+)", told))
    tried, kept = numbers.get("number_of_executed_units", "?"), numbers.get("new_units_added", "?")
    print(f"{name:9} {tried:>9} inputs in {seconds} s, {kept} of them new ways", flush=True)
    if not sound:
        print(told[-4000:])
    return sound


def _fuzz(name: str, options: list[str]) -> int:
    import atheris  # noqa: PLC0415 - only `make fuzz` installs it

    with atheris.instrument_imports(include=["sidecar", "yaml"]):
        from tests.fuzz.targets import TARGETS  # noqa: PLC0415
    logging.disable()
    atheris.Setup([sys.argv[0], *options], TARGETS[name])
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
