"""`python -m worker.dataplane`."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    # structlog imports rich if it finds it, which costs 3.5 MB in a process that draws nothing.
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type]  # None makes `import rich` an ImportError

    from worker.dataplane.main import main

    sys.exit(main())
