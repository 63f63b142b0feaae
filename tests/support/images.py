"""Images built in memory for tests: layers from a list of entries, a config, manifests, indexes, and files of them.

    image = busybox_image(cmd=("sh", "-c", "echo hello"), exposed_ports=("80/tcp",))
    write_layout_tar(tmp_path / "web.tar", {"web:1": image})        # what `image import` and `ctr images import` read
    push(f"http://127.0.0.1:{port}", "library/web", "1", image)     # to a registry without authentication

Everything is deterministic: the same arguments make the same digests.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import subprocess
import tarfile
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
OCI_LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG: Final = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER: Final = "application/vnd.docker.image.rootfs.diff.tar.gzip"
SUFFIX: Final = {"none": "", "gzip": "+gzip", "zstd": "+zstd"}
BUSYBOX: Final = Path("/bin/busybox")
APPLETS: Final = """
    sh ls cat echo env id true false sleep mkdir rm rmdir mv cp ln chmod chown touch head tail grep sed wc sort date ps
    kill mount umount hostname ip ping nc wget httpd nslookup vi top dd df du stat find xargs test yes seq tr cut awk
    md5sum sha256sum nproc free uname whoami pwd stty tty mkfifo nohup setsid sync
"""

Descriptor = dict[str, Any]


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


@dataclass(frozen=True)
class Entry:
    """One entry of a layer. `kind` is a tarfile type; a whiteout is a file named `.wh.NAME`."""

    name: str
    data: bytes = b""
    mode: int = 0o644
    kind: bytes = tarfile.REGTYPE
    target: str = ""
    uid: int = 0
    gid: int = 0
    device: tuple[int, int] = (0, 0)


def directory(name: str, mode: int = 0o755) -> Entry:
    return Entry(name, mode=mode, kind=tarfile.DIRTYPE)


def symlink(name: str, target: str) -> Entry:
    return Entry(name, kind=tarfile.SYMTYPE, mode=0o777, target=target)


def hard_link(name: str, target: str) -> Entry:
    return Entry(name, kind=tarfile.LNKTYPE, target=target)


def tar_bytes(entries: Sequence[Entry]) -> bytes:
    """Return a tar archive, its names as they are given, `..` and leading slashes included."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for entry in entries:
            info = tarfile.TarInfo(entry.name)
            info.type, info.mode, info.linkname = entry.kind, entry.mode, entry.target
            info.uid, info.gid, info.size = entry.uid, entry.gid, len(entry.data)
            info.devmajor, info.devminor = entry.device
            archive.addfile(info, io.BytesIO(entry.data))
    return out.getvalue()


def compressed(data: bytes, compression: str) -> bytes:
    """Return `data` as `none`, `gzip` or `zstd` (the program of that name) leaves it."""
    if compression == "zstd":
        return subprocess.run(["zstd", "-q", "-c", "-1"], input=data, capture_output=True, check=True).stdout
    return gzip.compress(data, 1, mtime=0) if compression == "gzip" else data


@dataclass(frozen=True)
class Built:
    """An image, or an index of several: the descriptor of its top, and all its blobs by digest."""

    top: Descriptor
    blobs: Mapping[str, bytes]
    layers: tuple[str, ...] = ()
    diff_ids: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        return str(self.top["digest"])

    @property
    def manifest(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.blobs[self.digest])
        return found


@dataclass
class ImageBuilder:
    """Collects layers; `docker` makes the older media types instead of OCI's."""

    docker: bool = False
    _layers: list[tuple[Descriptor, bytes, str]] = field(default_factory=list)

    def layer(self, entries: Sequence[Entry], compression: str = "gzip") -> ImageBuilder:
        return self.raw_layer(tar_bytes(entries), compression)

    def raw_layer(self, plain: bytes, compression: str = "gzip", *, diff_id: str = "") -> ImageBuilder:
        """Add a layer of any bytes; a `diff_id` that is not theirs makes an image that lies."""
        data = compressed(plain, compression)
        kind = DOCKER_LAYER if self.docker and compression == "gzip" else OCI_LAYER + SUFFIX[compression]
        self._layers.append((descriptor(kind, data), data, diff_id or digest_of(plain)))
        return self

    def build(self, config: Mapping[str, Any] | None = None, *, platform: str = "linux/amd64", **rest: Any) -> Built:
        """Return the image. `config` is the OCI config's `config` object, `rest` more of its top-level keys."""
        system, architecture, *variant = platform.split("/")
        document: dict[str, Any] = {
            "architecture": architecture,
            "os": system,
            **({"variant": variant[0]} if variant else {}),
            "config": dict(config or {}),
            "rootfs": {"type": "layers", "diff_ids": [diff_id for _, _, diff_id in self._layers]},
            **rest,
        }
        raw = encoded(document)
        manifest_type = DOCKER_MANIFEST if self.docker else OCI_MANIFEST
        manifest = encoded(
            {
                "schemaVersion": 2,
                "mediaType": manifest_type,
                "config": descriptor(DOCKER_CONFIG if self.docker else OCI_CONFIG, raw),
                "layers": [found for found, _, _ in self._layers],
            }
        )
        top = descriptor(manifest_type, manifest) | {"platform": as_platform(platform)}
        blobs = {digest_of(data): data for data in (raw, manifest, *(data for _, data, _ in self._layers))}
        layers = tuple(str(found["digest"]) for found, _, _ in self._layers)
        return Built(top, blobs, layers, tuple(diff_id for _, _, diff_id in self._layers))


def index(*images: Built) -> Built:
    """Return an index of images of several platforms."""
    raw = encoded({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [image.top for image in images]})
    blobs = {digest: data for image in images for digest, data in image.blobs.items()}
    return Built(descriptor(OCI_INDEX, raw), blobs | {digest_of(raw): raw})


def busybox_entries() -> list[Entry]:
    """Return a root file system around Debian's busybox-static: applets, /etc/passwd with root and www (1000), /tmp."""
    passwd = b"root:x:0:0:root:/root:/bin/sh\nwww:x:1000:1000:www:/home/www:/bin/sh\n"
    group = b"root:x:0:\nwww:x:1000:\nextra:x:2000:www\n"
    return [
        *(directory(name) for name in ("bin", "etc", "root", "home", "home/www", "var", "proc", "sys", "dev")),
        directory("tmp", 0o1777),
        Entry("bin/busybox", BUSYBOX.read_bytes(), 0o755),
        *(symlink(f"bin/{applet}", "busybox") for applet in APPLETS.split()),
        Entry("etc/passwd", passwd),
        Entry("etc/group", group),
    ]


def busybox_image(
    *,
    cmd: Sequence[str] = ("sh",),
    entrypoint: Sequence[str] = (),
    env: Sequence[str] = ("PATH=/bin",),
    files: Sequence[Entry] = (),
    exposed_ports: Sequence[str] = (),
    docker: bool = False,
    platform: str = "linux/amd64",
    **config: Any,
) -> Built:
    """Return an image of busybox, and of `files` in a second layer.

    `config`: more of the OCI config (`User=..`, `Healthcheck=..`).
    """
    builder = ImageBuilder(docker=docker).layer(busybox_entries())
    if files:
        builder.layer(files)
    settings: dict[str, Any] = {"Env": list(env), "Cmd": list(cmd), **config}
    if entrypoint:
        settings["Entrypoint"] = list(entrypoint)
    if exposed_ports:
        settings["ExposedPorts"] = {port: {} for port in exposed_ports}
    return builder.build(settings, platform=platform)


def write_layout_tar(path: Path, images: Mapping[str, Built]) -> None:
    """Write an OCI image layout; names such as `web:1` become the annotations that containerd and Docker read."""
    tops = []
    for name, image in images.items():
        repository, _, tag = name.rpartition(":")
        marks = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": tag if repository else name}
        tops.append(image.top | {"annotations": marks})
    files = {"oci-layout": encoded({"imageLayoutVersion": "1.0.0"})}
    files["index.json"] = encoded({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": tops})
    for image in images.values():
        files |= {f"blobs/{digest.replace(':', '/')}": data for digest, data in image.blobs.items()}
    path.write_bytes(tar_bytes([Entry(name, data) for name, data in files.items()]))


def write_docker_tar(path: Path, images: Mapping[str, Built]) -> None:
    """Write what `docker save` wrote before it wrote layouts: manifest.json, configs and layers, all uncompressed."""
    files: dict[str, bytes] = {}
    rows = []
    for name, image in images.items():
        config = image.manifest["config"]["digest"]
        files[f"{config[7:]}.json"] = image.blobs[config]
        paths = []
        for digest in image.layers:
            paths.append(f"{digest[7:]}/layer.tar")
            data = image.blobs[digest]
            files[paths[-1]] = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
        rows.append({"Config": f"{config[7:]}.json", "RepoTags": [name], "Layers": paths})
    files["manifest.json"] = encoded(rows)
    path.write_bytes(tar_bytes([Entry(name, data) for name, data in files.items()]))


def push(url: str, repository: str, tag: str, image: Built, *, headers: Mapping[str, str] | None = None) -> None:
    """Upload all blobs, all manifests, and tag the top one, by plain requests."""
    base, manifests = f"{url}/v2/{repository}", {OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST}
    kinds: dict[str, str] = {image.digest: str(image.top["mediaType"])}
    for data in list(image.blobs.values()):
        if data[:1] == b"{":
            kinds |= {row["digest"]: row["mediaType"] for row in json.loads(data).get("manifests", ())}
    nested = {digest for digest, kind in kinds.items() if kind in manifests}
    for digest, data in image.blobs.items():
        if digest not in nested:
            place = _request("POST", f"{base}/blobs/uploads/", b"", headers or {})
            mark = "&" if "?" in place else "?"
            octets = {"Content-Type": "application/octet-stream"}
            _request("PUT", f"{place}{mark}digest={digest}", data, {**octets, **(headers or {})})
    for digest in sorted(nested - {image.digest}):
        _request(
            "PUT", f"{base}/manifests/{digest}", image.blobs[digest], {"Content-Type": kinds[digest], **(headers or {})}
        )
    top = {"Content-Type": kinds[image.digest], **(headers or {})}
    _request("PUT", f"{base}/manifests/{tag}", image.blobs[image.digest], top)


def _request(method: str, url: str, body: bytes, headers: Mapping[str, str]) -> str:
    request = urllib.request.Request(url, data=body, method=method, headers=dict(headers))
    with urllib.request.urlopen(request, timeout=30) as answer:
        place: str = answer.headers.get("Location", "")
        return place


def descriptor(kind: str, data: bytes) -> Descriptor:
    return {"mediaType": kind, "digest": digest_of(data), "size": len(data)}


def as_platform(text: str) -> dict[str, str]:
    return dict(zip(("os", "architecture", "variant"), text.split("/"), strict=False))


def encoded(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
