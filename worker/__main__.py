"""`python -m worker`: started by swarmpyd."""

from __future__ import annotations

import sys

from swarmpy.frugal import forgo

if __name__ == "__main__":
    forgo("rich")
    from worker.main import main

    sys.exit(main())
