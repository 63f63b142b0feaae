"""`python -m swarmpy.daemon` is `swarmpyd`."""

import sys

from swarmpy.daemon.main import main

if __name__ == "__main__":
    sys.exit(main())
