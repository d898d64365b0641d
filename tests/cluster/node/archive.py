"""Container images without a registry: files of this machine made into an archive that containerd imports.

The format is the OCI image layout, https://github.com/opencontainers/image-spec, in one tar file. Images of
one archive share their layer, so that a hundred of them cost no more than one.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

File = Path | bytes
"""A file of this machine, or the content of one."""
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_INDEX = "application/vnd.oci.image.index.v1+json"


@dataclass(frozen=True, slots=True)
class Image:
    """One reference and how its container is started."""

    reference: str
    """With host and tag, as pods name it."""
    command: Sequence[str]
    environment: Mapping[str, str]
    user: str = "65532:65532"


def write(path: Path, files: Mapping[str, File], images: Iterable[Image]) -> None:
    """Write an archive of images that all have `files`, by their absolute path in the container."""
    blobs: dict[str, bytes] = {}

    def put(blob: bytes, kind: str) -> dict[str, Any]:
        """Take a blob into the archive; how others refer to it."""
        name = hashlib.sha256(blob).hexdigest()
        blobs[f"blobs/sha256/{name}"] = blob
        return {"mediaType": kind, "digest": f"sha256:{name}", "size": len(blob)}

    layer = put(_layer(files), _LAYER)
    manifests = []
    for image in images:
        config = put(_json(_config(image, layer["digest"])), _CONFIG)
        content = {"schemaVersion": 2, "mediaType": _MANIFEST, "config": config, "layers": [layer]}
        names = {"io.containerd.image.name": image.reference}
        manifests.append({**put(_json(content), _MANIFEST), "annotations": names})
    index = _json({"schemaVersion": 2, "mediaType": _INDEX, "manifests": manifests})
    with tarfile.open(path, "w") as archive:
        _add(archive, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
        _add(archive, "index.json", index)
        for name, blob in blobs.items():
            _add(archive, name, blob)


def _layer(files: Mapping[str, File]) -> bytes:
    """A tar of the files, and of the folders they are in. They keep the time they were written at: Python
    compares it with that of the compiled file."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", dereference=True) as layer:
        for folder in _folders(files):
            entry = tarfile.TarInfo(folder.lstrip("/"))
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "/tmp" else 0o755
            layer.addfile(entry)
        for name, file in sorted(files.items()):
            if isinstance(file, bytes):
                _add(layer, name.lstrip("/"), file)
            else:
                layer.add(file, name.lstrip("/"), recursive=False, filter=_plain)
    return content.getvalue()


def _folders(files: Mapping[str, File]) -> list[str]:
    parents = {str(parent) for name in files for parent in Path(name).parents}
    return sorted((parents | {"/tmp"}) - {"/"})


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mtime = int(entry.mtime)
    return entry


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    entry.mode = 0o755 if content.startswith(b"#!") else 0o644
    archive.addfile(entry, io.BytesIO(content))


def _config(image: Image, digest: str) -> dict[str, Any]:
    return {
        "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {
            "Entrypoint": list(image.command),
            "Env": [f"{name}={value}" for name, value in image.environment.items()],
            "User": image.user,
        },
        "rootfs": {"type": "layers", "diff_ids": [digest]},
    }


def _json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content).encode()
