"""Scripts, styles and pictures of the console: read once, compressed once, kept by browsers for a year."""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

from fastapi import APIRouter, Request, Response

from phoenix_orch.api.doors import OPEN
from phoenix_orch.kernel.errors import NotFound

PATH = "/console/static"
_YEAR = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class Asset:
    content: bytes
    packed: bytes
    media_type: str
    digest: str
    """Part of the address, so that a new version is another file."""


@lru_cache(maxsize=1)
def assets() -> dict[str, Asset]:
    """All files by name."""
    found = {}
    for file in sorted(files("phoenix_orch.console").joinpath("static").iterdir(), key=lambda one: one.name):
        content = file.read_bytes()
        found[file.name] = Asset(
            content=content,
            packed=gzip.compress(content, mtime=0),
            media_type=mimetypes.guess_type(file.name)[0] or "text/plain",
            digest=hashlib.sha256(content).hexdigest()[:12],
        )
    return found


def address(name: str) -> str:
    """Where a page finds the file."""
    return f"{PATH}/{assets()[name].digest}/{name}"


def routes() -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get(PATH + "/{digest}/{name}", dependencies=[OPEN])
    async def get_asset(request: Request, digest: str, name: str) -> Response:
        asset = assets().get(name)
        if asset is None or asset.digest != digest:
            raise NotFound(f"there is no file {name!r} of this version", remedy="load the page again")
        headers = {"cache-control": _YEAR, "x-content-type-options": "nosniff", "vary": "accept-encoding"}
        packs = "gzip" in request.headers.get("accept-encoding", "")
        if packs:
            headers["content-encoding"] = "gzip"
        return Response(asset.packed if packs else asset.content, 200, headers, asset.media_type)

    return router
