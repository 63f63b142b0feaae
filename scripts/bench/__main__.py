"""Runs the benchmarks, all or those that are named, one after another; ends with their results as JSON lines.

    python -m scripts.bench [NAME...]
    python -m scripts.bench NAME OPTION...

Options are the benchmark's own, such as `--rounds 3`; `python -m scripts.bench NAME --help` lists them. A benchmark
whose peer program is missing is skipped, and the Debian packages that have it are named. The exit status is 1 if a
benchmark failed.
"""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).resolve().parent
PARTS: Final = frozenset({"__init__", "__main__", "cluster", "dockers", "fleet", "load", "managers", "report", "trio"})
"""Modules of this folder that are no benchmarks."""

NEEDS: Final[Mapping[str, Mapping[str, str]]] = {
    "dns": {"dnsperf": "dnsperf", "dnsmasq": "dnsmasq-base"},
    "ingress": {"wrk": "wrk", "nginx": "nginx-light", "taskset": "util-linux"},
    "overlay": {"wrk": "wrk", "nginx": "nginx-light", "curl": "curl"},
    "proxy": {"wrk": "wrk", "nginx": "nginx-light", "haproxy": "haproxy", "taskset": "util-linux"},
}
"""The programs that a benchmark runs beside ours, and the Debian package of each."""


def benchmarks() -> list[str]:
    return sorted(path.stem for path in HERE.glob("*.py") if path.stem not in PARTS)


def missing(name: str) -> dict[str, str]:
    """Return the programs that are not installed, each with its package."""
    return {program: package for program, package in NEEDS.get(name, {}).items() if shutil.which(program) is None}


def run(name: str, options: Sequence[str]) -> tuple[bool, list[str]]:
    """Run one benchmark, passing on what it prints; return whether it succeeded, and its results."""
    results: list[str] = []
    command = [sys.executable, "-u", "-m", f"scripts.bench.{name}", *options]
    with subprocess.Popen(command, cwd=HERE.parent.parent, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None, "it is a pipe"
        for line in process.stdout:
            print(line, end="", flush=True)
            if is_result(line):
                results.append(line.strip())
    return process.returncode == 0, results


def is_result(line: str) -> bool:
    if not line.startswith("{"):
        return False
    try:
        return "bench" in json.loads(line)
    except ValueError:
        return False


def split(words: Sequence[str], known: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the names of benchmarks (all, if none is given) and the options for the one that is named.

    Raises:
        ValueError: there is no such benchmark, or the options are for none or for several.
    """
    names = list(itertools.takewhile(lambda word: not word.startswith("-"), words))
    options = list(words[len(names) :])
    if unknown := sorted(set(names) - set(known)):
        raise ValueError(f"no benchmark {', '.join(unknown)}; there are {', '.join(known)}")
    if options and len(names) != 1:
        raise ValueError(f"{options[0]}: options are for one benchmark, which comes first: NAME {' '.join(options)}")
    return names or list(known), options


def main(words: Sequence[str]) -> int:
    if words and words[0] in ("-h", "--help"):
        print(f"{__doc__}\nThere are {', '.join(benchmarks())}.")
        return 0
    try:
        names, options = split(words, benchmarks())
    except ValueError as error:
        print(f"scripts.bench: {error}", file=sys.stderr)
        return 2
    failed, results = [], []
    for name in names:
        print(f"== {name}", flush=True)
        if lacking := missing(name):
            print(f"skipped: {', '.join(lacking)} not found: apt-get install {' '.join(sorted(lacking.values()))}\n")
            continue
        began_s = time.monotonic()
        good, found = run(name, options)
        results += found
        if not good:
            failed.append(name)
        print(f"{'' if good else 'FAILED '}after {time.monotonic() - began_s:.0f} s\n", flush=True)
    print("\n".join(results))
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
