"""Ask a URL some times, each over a new connection, and say who answered: `ask.py TIMES URL`. Standard library only."""

from __future__ import annotations

import sys
from urllib.request import urlopen

TIMEOUT_S = 12.0


def ask(url: str) -> str:
    """Return who answered: `<service>.<slot>`, the task and the version, as `whoami.py` says them."""
    with urlopen(url, timeout=TIMEOUT_S) as answer:
        lines = answer.read().decode().splitlines()
    said = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
    version = f", version {said['version']}" if said.get("version") else ""
    return f"{said['service']}.{said['slot']}, task {said['task'][:12]}{version}"


def main() -> int:
    if len(sys.argv) != 3 or not sys.argv[1].isdigit():
        print("usage: ask.py TIMES URL", file=sys.stderr)
        return 2
    for _ in range(int(sys.argv[1])):
        print(ask(sys.argv[2]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
