"""Time the task host's starts: 500 times /bin/sleep, one after another and all at once.

Run by hand: python scripts/bench/taskhost_start.py [COUNT]. Starts a task host of its own in a temporary directory.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def connect(path: Path) -> socket.socket:
    """Return a connection to the task host, which may still be starting."""
    deadline_s = time.monotonic() + 5.0
    while True:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.connect(str(path))
        except OSError:
            sock.close()
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.01)
        else:
            return sock


def request(task_id: str) -> bytes:
    """Return the line that starts one sleep."""
    output = {"stdout": "/dev/null", "stderr": "/dev/null"}
    body = {"op": "start", "id": task_id, "argv": ["/bin/sleep", "600"], "env": {}, "cwd": "/", **output}
    return json.dumps(body).encode() + b"\n"


def main() -> None:
    """Print milliseconds a start, and the memory of the task host that then holds all of them."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    main_py = Path(__file__).parents[2] / "worker" / "taskhost" / "__main__.py"
    with tempfile.TemporaryDirectory(prefix="bench") as directory:
        command = [sys.executable, "-P", "-S", str(main_py), "--state-dir", directory]
        with subprocess.Popen(command) as host, connect(Path(directory, "run", "taskhost.sock")) as sock:
            answers = sock.makefile("r")
            began_s = time.perf_counter()
            for number in range(count):
                sock.sendall(request(f"one-{number}"))
                answers.readline()
            one_ms = (time.perf_counter() - began_s) / count * 1000
            began_s = time.perf_counter()
            sock.sendall(b"".join(request(f"all-{number}") for number in range(count)))
            good = sum(json.loads(answers.readline())["ok"] for _ in range(count))
            all_ms = (time.perf_counter() - began_s) / count * 1000
            memory = next(x for x in Path(f"/proc/{host.pid}/status").read_text().splitlines() if "VmRSS" in x)
            print(f"one after another: {one_ms:.2f} ms a start; all at once: {all_ms:.2f} ms ({good}/{count} started)")
            print(f"task host with {2 * count} tasks: {memory}")
            sock.sendall(b'{"op":"shutdown","grace_s":2}\n')
            host.wait(20)


if __name__ == "__main__":
    main()
