"""Where the programs begin. Ctrl-C is quiet from here on, also while half a second of modules is imported."""

from __future__ import annotations

import importlib

INTERRUPTED = 130


def phoenix() -> None:
    """The program `phoenix`."""
    _begin("main")


def kubectl() -> None:
    """The program `kubectl-phoenix`."""
    _begin("kubectl_plugin")


def verify_state() -> None:
    """The program `verify-state`."""
    _begin("verify_state")


def _begin(module: str) -> None:
    try:
        program = importlib.import_module(f"phoenix_orch.cli.{module}")
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    program.main()
