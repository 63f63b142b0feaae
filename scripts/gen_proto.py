"""Generate the Python of every package below `proto/`; with --check, say what differs and exit 1.

The path below `proto/` mirrors the package, so that the generated imports are right as they are.
"""

from __future__ import annotations

import filecmp
import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"


def packages() -> list[Path]:
    """Return the folders that hold `.proto` files, relative to `proto/` and to the tree alike."""
    return sorted({path.parent.relative_to(PROTO) for path in PROTO.rglob("*.proto")})


def generate(out: Path) -> None:
    """Write the modules and their stubs below `out`.

    Raises:
        SystemExit: protoc refused a file; its words are on standard error.
    """
    sources = sorted(str(p) for p in PROTO.rglob("*.proto"))
    well_known = Path(protoc.__file__).parent / "_proto"  # google.protobuf
    args = ["protoc", f"-I{PROTO}", f"-I{well_known}", f"--python_out={out}", f"--grpc_python_out={out}"]
    plugins = Path(sys.executable).parent
    args += [f"--plugin={name}={plugins / name}" for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")]
    args += [f"--mypy_out=quiet:{out}", f"--mypy_grpc_out=quiet:{out}"]
    if protoc.main([*args, *sources]) != 0:
        raise SystemExit("protoc failed; see above")


def differences(fresh: Path) -> list[str]:
    """Return the generated files that are missing, stale or extra in the tree."""
    wrong = []
    for package in packages():
        new = {p.name for p in (fresh / package).iterdir()}
        old = {p.name for p in (ROOT / package).iterdir() if "_pb2" in p.name}
        same = {n for n in new & old if filecmp.cmp(fresh / package / n, ROOT / package / n, shallow=False)}
        wrong += [str(package / name) for name in sorted((new | old) - same)]
    return wrong


def main() -> None:
    if "--check" not in sys.argv[1:]:
        generate(ROOT)
        return
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch))
        wrong = differences(Path(scratch))
    if wrong:
        raise SystemExit(f"generated code is not what proto/ says ({', '.join(wrong)}): run `make proto`")


if __name__ == "__main__":
    main()
