"""`python -m worker.taskhost`, or this file by its path under `-P -S`, as the supervisor starts it."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    if not __package__:
        # Started by path: only this makes the packages importable.
        sys.path.insert(0, __file__.rsplit("/", 3)[0])
    from worker.taskhost.main import main

    sys.exit(main(sys.argv[1:]))
