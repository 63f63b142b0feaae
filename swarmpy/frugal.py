"""Memory that a node's processes need not spend. Import it before anything that would spend it."""

from __future__ import annotations

import sys


def forgo(library: str) -> None:
    """Make `import library` fail in this process, if it is not loaded yet.

    structlog imports rich if it finds it, which costs 3.5 MB in a process that draws nothing.
    """
    sys.modules.setdefault(library, None)  # type: ignore[arg-type]  # None makes an import of it an ImportError
