"""What containers of a stack have of their own: mounts and volumes, names, capabilities, kernel settings."""

from __future__ import annotations

import io
from pathlib import Path

from swarmpy.model.spec import ContainerSpec, Mount
from swarmpy.model.states import MountType
from swarmpy.stack.convert import convert
from swarmpy.stack.load import load

SERVICES = """
services:
  web:
    image: nginx
    hostname: "box-{{.Task.Slot}}"
    init: true
    read_only: true
    tty: true
    cap_drop: [ALL]
    cap_add: [net_bind_service]
    dns: 1.1.1.1
    dns_search: [a.example, b.example]
    dns_opt: ["timeout:1"]
    extra_hosts: {other: 10.0.0.9}
    sysctls: {net.core.somaxconn: 512}
    tmpfs: ["/run:size=1m"]
    volumes:
      - data:/data
      - shared:/shared:ro
      - /srv:/srv
      - ./here:/here
      - /anonymous
      - {type: bind, source: sub, target: /sub, read_only: true, bind: {propagation: rslave}}
      - {type: volume, source: named, target: /named, volume: {nocopy: true}}
volumes:
  data:
  shared: {external: true}
  named: {name: own}
"""


def container(tmp_path: Path) -> ContainerSpec:
    path = tmp_path / "c.yaml"
    path.write_text(SERVICES)
    loaded = load([str(path)], {}, stdin=io.StringIO)
    [service] = convert(loaded.document, "shop", directory=loaded.directory, environ={}).services
    return service.spec.task.container


def test_everything_reaches_the_spec(tmp_path: Path) -> None:
    found = container(tmp_path)
    assert (found.hostname, found.init, found.read_only, found.tty) == ("box-{{.Task.Slot}}", True, True, True)
    assert (found.cap_drop, found.cap_add) == (("ALL",), ("net_bind_service",))
    assert (found.dns, found.dns_search, found.dns_options) == (
        ("1.1.1.1",),
        ("a.example", "b.example"),
        ("timeout:1",),
    )
    assert (found.hosts, found.sysctls) == (("other:10.0.0.9",), {"net.core.somaxconn": "512"})


def test_volumes_have_the_stacks_name_unless_they_say_another_one(tmp_path: Path) -> None:
    by_target = {mount.target: mount for mount in container(tmp_path).mounts}
    volume, bind = MountType.VOLUME, MountType.BIND
    assert by_target == {
        "/data": Mount(volume, "shop_data", "/data"),
        "/shared": Mount(volume, "shared", "/shared", read_only=True),
        "/srv": Mount(bind, "/srv", "/srv"),
        "/here": Mount(bind, str(tmp_path.resolve() / "here"), "/here"),
        "/anonymous": Mount(volume, "", "/anonymous"),
        "/sub": Mount(bind, str(tmp_path.resolve() / "sub"), "/sub", read_only=True, options={"propagation": "rslave"}),
        "/named": Mount(volume, "own", "/named", options={"nocopy": "true"}),
        "/run": Mount(MountType.TMPFS, "", "/run", options={"size": "1m"}),
    }
