"""`phoenix version`."""

from __future__ import annotations

import platform
from importlib.metadata import version as installed

from phoenix_orch.cli.options import Output, OutputOption
from phoenix_orch.cli.output import emit


def version(output: OutputOption = Output.TABLE) -> None:
    """Print the version."""
    found = installed("phoenix-orchestrator")
    emit(output, {"version": found, "python": platform.python_version()}, f"phoenix {found}")
