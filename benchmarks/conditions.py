"""Under which conditions a benchmark ran, and how its result is written."""

from __future__ import annotations

import json
import os
import platform
import signal
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any


def conditions() -> dict[str, Any]:
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "phoenix": version("phoenix-orchestrator"),
        "loadAverageBefore": round(os.getloadavg()[0], 1),
    }


def end_in_order() -> None:
    """SIGTERM ends the benchmark as Ctrl-C does: with everything that it started."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def write(path: Path, result: dict[str, Any]) -> None:
    """Whole, or as before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    temporary.replace(path)
