"""Chromium for tests: the machine's own, else that of Debian's packages, unpacked and not installed."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright
from tests import debian

from phoenix_orch.kernel.errors import Terminal

PACKAGES = ("chromium", "fonts-dejavu-core")
OPTIONS = ("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--font-render-hinting=none")


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """A browser without a window. Skips the test where there is none to be had, and says how to get one."""
    try:
        program, libraries = _chromium()
    except Terminal as error:
        pytest.skip(f"no Chromium: {error.message}; {error.remedy}")
    path = ":".join(filter(None, [*libraries, os.environ.get("LD_LIBRARY_PATH", "")]))
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(
            executable_path=str(program), args=list(OPTIONS), env={**os.environ, "LD_LIBRARY_PATH": path}
        )
        try:
            yield made
        finally:
            made.close()


def _chromium() -> tuple[Path, list[str]]:
    """The program, and where its libraries lie."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if (own := shutil.which(name)) is not None:
            return Path(own), []
    root = debian.unpacked(PACKAGES)
    folders = sorted({str(file.parent) for file in root.rglob("*.so*") if file.parent.name != "chromium"})
    return root / "usr" / "lib" / "chromium" / "chromium", folders
