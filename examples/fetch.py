"""Print what is at a URL, as `curl` would: `fetch.py URL`. Standard library only."""

from __future__ import annotations

import sys
from urllib.request import urlopen

TIMEOUT_S = 12.0


def main() -> int:
    if len(sys.argv) != 2:
        print("usage: fetch.py URL", file=sys.stderr)
        return 2
    with urlopen(sys.argv[1], timeout=TIMEOUT_S) as answer:
        print(answer.read().decode().rstrip())
    return 0


if __name__ == "__main__":
    sys.exit(main())
