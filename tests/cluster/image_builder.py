"""Builds images as buildah does for a user, from a Python that is made of Debian's packages.

Buildah and mmdebstrap are Debian's as well, unpacked and laid over /usr in a mount namespace of their own.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

from tests import debian
from tests.cluster.kubectl import Refused

ROOT = Path(__file__).parents[2]
SUITE = "bookworm"
PYTHON = "localhost/python:test"
IMAGE = "localhost/phoenix-orchestrator:test"
"""That of `Containerfile`, in tests."""
_PACKAGES = ("python3", "python3-venv", "ca-certificates")
_INDEX_SETTINGS = (Path("/etc/pip.conf"), Path("/etc/ssl/certs"))
"""How this machine finds its package index; the build finds it in the same way."""


class Builder:
    """Images in a store of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._usr = debian.unpacked(("buildah",)) / "usr"
        graph, run = folder / "graph", folder / "run"
        storage = f'[storage]\ndriver = "vfs"\nrunroot = "{run}"\ngraphroot = "{graph}"\n'
        self._file("storage.conf", storage)
        self._file("registries.conf", "unqualified-search-registries = []\n")
        self._policy = self._file(
            "policy.json", json.dumps({"default": [{"type": "insecureAcceptAnything"}]})
        )

    def base(self) -> str:
        """A Python on Debian, named by its digest."""
        container = self("from", "scratch").strip()
        self("add", "--quiet", container, str(_root_files()), "/")
        self("commit", "--quiet", *self._signatures(), container, PYTHON)
        self("rm", container)
        digest = self("images", "--format", "{{.Digest}}", PYTHON).strip()
        return f"{PYTHON.partition(':')[0]}@{digest}"

    def build(self, base: str, tag: str) -> str:
        """What the build printed. Raises Refused."""
        mounts = [f"--volume={path}:{path}:ro" for path in _INDEX_SETTINGS if path.exists()]
        words = ["--pull-never", "--network=host", f"--build-arg=BASE={base}", f"--tag={tag}", *mounts]
        return self("build", *self._signatures(), *words, "--file=Containerfile", str(ROOT))

    def config(self, image: str) -> dict[str, Any]:
        """As the image's own configuration says it."""
        found: dict[str, Any] = json.loads(self("inspect", "--type", "image", image))["OCIv1"]["config"]
        return found

    def run(self, image: str, *words: str) -> str:
        """What a command prints in a container of this image. Raises Refused."""
        container = self("from", "--pull-never", image).strip()
        try:
            return self("run", container, "--", *words)
        finally:
            self("rm", container)

    def save(self, image: str, path: Path) -> None:
        """Write an archive of the image as container runtimes import them; it keeps its name."""
        self("push", "--quiet", *self._signatures(), image, f"oci-archive:{path}:{image}")

    def __call__(self, *words: str) -> str:
        """What buildah prints. Raises Refused."""
        over = f"mount -t overlay overlay -o lowerdir={self._usr}:/usr /usr"
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", f"{over} && exec {shlex.join(['buildah', *words])}"],
            cwd=ROOT,
            env={
                **os.environ,
                "BUILDAH_ISOLATION": "chroot",
                "CONTAINERS_STORAGE_CONF": str(self._folder / "storage.conf"),
                "CONTAINERS_REGISTRIES_CONF": str(self._folder / "registries.conf"),
            },
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        if done.returncode != 0:
            raise Refused(f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
        return done.stdout

    def _signatures(self) -> tuple[str, str]:
        return "--signature-policy", str(self._policy)

    def _file(self, name: str, text: str) -> Path:
        path = self._folder / name
        path.write_text(text, "utf-8")
        return path


def _root_files() -> Path:
    """The archive of a small Debian with Python; kept."""
    archive = debian.cache() / f"{SUITE}-{'-'.join(_PACKAGES)}.tar"
    if not archive.exists():
        bootstrap = debian.within(debian.unpacked(("mmdebstrap",)), "mmdebstrap")
        unfinished = archive.with_suffix(".unfinished.tar")
        words = ["--variant=essential", f"--include={','.join(_PACKAGES)}", SUITE, str(unfinished)]
        subprocess.run([str(bootstrap), *words], check=True, capture_output=True, timeout=900)
        unfinished.rename(archive)
    return archive
