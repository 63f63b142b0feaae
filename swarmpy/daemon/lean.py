"""The supervisor's real entry point: `python -P -S lean.py OPTIONS`, started by `swarmpy.daemon.main`.

Without site-packages and the argument parser the process that stays is 2 MB smaller.
"""

from __future__ import annotations

import sys


def main() -> int:
    """Run the supervisor; return its exit status."""
    from swarmpy.daemon.lines import say
    from swarmpy.daemon.settings import from_argv
    from swarmpy.daemon.state import Unusable
    from swarmpy.daemon.supervisor import supervise

    try:
        supervise(from_argv(sys.argv[1:]))
    except Unusable as error:
        say(f"swarmpyd: {error}")
        return 1
    return 0


if __name__ == "__main__":
    # Started by path, under -P: only this makes the packages importable.
    sys.path.insert(0, __file__.rsplit("/", 3)[0])
    sys.exit(main())
