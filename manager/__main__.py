"""`python -m manager`: started by swarmpyd while the node is a manager."""

from __future__ import annotations

import sys

from manager.main import main

if __name__ == "__main__":
    sys.exit(main())
