"""Debian's docker-registry on a free loopback port, with or without a password."""

from __future__ import annotations

import http.client
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from swarmpy.registry.credentials import Credentials
from tests.support.balancer import free_port
from tests.support.node_process import until

USER: Final = Credentials("anna", "secret")
HTPASSWD: Final = "anna:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n"
"""USER, by bcrypt: the registry takes no other hash."""


def lacking() -> str:
    return "" if shutil.which("docker-registry") else "not installed: docker-registry (Debian: docker-registry)"


class DockerRegistry:
    """Leaving the context stops it and deletes what it kept."""

    def __init__(self, *, password: bool = False) -> None:
        self._password = password
        self._folder = Path()
        self._process: subprocess.Popen[bytes] | None = None
        self.host = ""

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="registry-"))
        self.host = f"127.0.0.1:{free_port()}"
        (self._folder / "htpasswd").write_text(HTPASSWD)
        auth = f"auth: {{htpasswd: {{realm: tests, path: {self._folder}/htpasswd}}}}\n" if self._password else ""
        config = self._folder / "config.yml"
        config.write_text(
            "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"
            f"storage: {{filesystem: {{rootdirectory: {self._folder}/data}}, delete: {{enabled: true}}}}\n"
            f"http: {{addr: '{self.host}', secret: tests}}\n{auth}"
        )
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(["docker-registry", "serve", str(config)], stdout=log, stderr=log)
        until(self._answers, what="docker-registry answers")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._folder)

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection(self.host, timeout=1.0)
        try:
            connection.request("GET", "/v2/")
            return connection.getresponse().status in (200, 401)
        except OSError:
            return False
        finally:
            connection.close()
