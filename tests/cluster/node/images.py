"""The images of the tests: Python as it is on this machine, with Phoenix; the demo's shop in many builds."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.cluster.node.archive import File, Image

import phoenix_orch
from phoenix_orch.runtime.valkey_program import find_binary

PHOENIX = "phoenix.test/phoenix:1"
"""Phoenix without its image's Debian: made in seconds."""
SHOP = "phoenix.test/shop"
SHOP_PORT = 8080
SHOPS = {
    "v1": "",
    "v2": "",
    "v3": "",
    "bad-errors": "errors:0.2",
    "slow": "slow:0.3",
    "crash": "crash:8",
    "hang": "hang:0.2",
    "leak": "leak:8",
    "never-ready": "unready:inf",
}
"""Builds of the shop, by tag, and what is wrong with them: see `phoenix_orch.demo.service`."""
CANNOT_START = f"{SHOP}:cannot-start"
"""Its program is missing."""
_PYTHON = f"/usr/local/bin/python{sys.version_info.major}.{sys.version_info.minor}"
_LIBRARIES, _APP = "/usr/local/lib", "/app"
_ENVIRONMENT = {
    "PATH": "/usr/local/bin",
    "LD_LIBRARY_PATH": _LIBRARIES,
    "PYTHONPATH": _APP,
    "PYTHONUNBUFFERED": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
}
_LEFT_OUT = (
    *("site-packages", "dist-packages", "test", "tests", "idlelib", "idle_test", "tkinter", "turtledemo"),
    *("ensurepip", "lib2to3", "pydoc_data", "distutils"),
)


def python(command: Iterable[str], reference: str, environment: Mapping[str, str] | None = None) -> Image:
    """An image that runs Python with these arguments; its files are those of `python_files`."""
    return Image(reference, [_PYTHON, *command], {**_ENVIRONMENT, **(environment or {})})


def phoenix() -> tuple[dict[str, File], Image]:
    """Phoenix as it is here, with `verify-state` where its image has it."""
    program = f"#!{_PYTHON}\nfrom phoenix_orch.cli.verify_state import main\n\nmain()\n"
    files = python_files("phoenix-orchestrator") | {"/usr/local/bin/verify-state": program.encode()}
    # Valkey is started with a clean environment, and finds its libraries where every program looks
    files |= {path: Path(path) for path in _libraries([str(find_binary(None))]).values()}
    return files, python(["-m", "phoenix_orch"], PHOENIX)


def shops() -> list[Image]:
    """Every build of the shop. One layer: they differ in their settings, as builds differ in their code."""
    images = []
    for tag, fault in SHOPS.items():
        words = ["-m", "phoenix_orch.demo.service", "--host", "0.0.0.0", "--port", str(SHOP_PORT)]
        images.append(python([*words, "--version", tag], f"{SHOP}:{tag}", {"SHOP_FAULT": fault}))
    return [*images, Image(CANNOT_START, ["/no/such/program"], _ENVIRONMENT)]


def python_files(*distributions: str) -> dict[str, File]:
    """This interpreter, its library, Phoenix, and these distributions with all they require.

    Found below /usr/local and /app in the container. Shared libraries come from this machine.
    """
    program = Path(sys.executable).resolve()
    files: dict[str, File] = {_PYTHON: program, "/usr/local/bin/python3": program, **_library()}
    for name in _with_requirements(distributions):
        files |= _distribution(name)
    files |= _package(Path(next(iter(phoenix_orch.__path__))))
    files |= _shared([file for file in files.values() if isinstance(file, Path)])
    files["/etc/passwd"] = b"root:x:0:0::/:\nnonroot:x:65532:65532::/tmp:\n"
    return files


def _library() -> dict[str, File]:
    """The standard library, without what only developers and desktops need."""
    root = Path(sysconfig.get_path("stdlib"))
    return {
        f"{_LIBRARIES}/{root.name}/{name}": root / name
        for name in _names(root)
        if ".opt-" not in name.name and not re.match(r"_?(tkinter|test|xxlimited|ctypes_test)", name.name)
    }


def _package(root: Path) -> dict[str, File]:
    return _with_compiled({f"{_APP}/{root.name}/{name}": root / name for name in _names(root)})


def _names(root: Path) -> list[Path]:
    """The files below a folder, relative to it, without those of the folders that are left out."""
    found = []
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name not in _LEFT_OUT and not name.startswith("config-")]
        found += [Path(folder, name).relative_to(root) for name in files]
    return found


def _distribution(name: str) -> dict[str, File]:
    """Its files, without programs: those are outside of where packages are."""
    found = importlib.metadata.distribution(name)
    files = {str(file): Path(str(file.locate())) for file in found.files or [] if ".." not in file.parts}
    return _with_compiled({f"{_APP}/{name}": path for name, path in files.items() if path.is_file()})


def _with_compiled(sources: Mapping[str, Path]) -> dict[str, File]:
    """Besides, what Python has made of them here: a container that may not write would compile all that it
    imports at each start."""
    files: dict[str, File] = dict(sources)
    for name, source in sources.items():
        compiled = Path(importlib.util.cache_from_source(str(source))) if source.suffix == ".py" else source
        if compiled != source and compiled.is_file():
            files[f"{Path(name).parent}/__pycache__/{compiled.name}"] = compiled
    return files


def _with_requirements(names: Iterable[str]) -> set[str]:
    """The distributions and what they require here, without extras."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        for requirement in importlib.metadata.requires(name) or []:
            required = re.match(r"[\w.-]+", requirement)
            if required is not None and "extra ==" not in requirement and _installed(required[0]):
                waiting.append(required[0])
    return found


def _installed(name: str) -> bool:
    """What is not installed here is not required here."""
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _listed(binaries: list[str]) -> str:
    return subprocess.run(["ldd", *binaries], capture_output=True, text=True, check=False).stdout


def _libraries(binaries: list[str]) -> dict[str, str]:
    """Name and path of what these programs and modules load."""
    return dict(re.findall(r"^\s+(\S+) => (/\S+) ", _listed(binaries), re.MULTILINE))


def _shared(files: Iterable[Path]) -> dict[str, File]:
    """The shared libraries that programs and extension modules load, in one folder; the loader in its own."""
    binaries = [str(file) for file in files if ".so" in file.name or file == Path(sys.executable).resolve()]
    libraries, listed = _libraries(binaries), _listed(binaries)
    loaders = re.findall(r"^\s+(/\S+) \(", listed, re.MULTILINE)
    found: dict[str, File] = {f"{_LIBRARIES}/{name}": Path(path) for name, path in libraries.items()}
    return found | {loader: Path(loader) for loader in loaders}
