"""`python -m manager`: started by swarmpyd while the node is a manager."""

from __future__ import annotations

import sys

from swarmpy.frugal import forgo

if __name__ == "__main__":
    forgo("rich")
    from manager.main import main

    sys.exit(main())
