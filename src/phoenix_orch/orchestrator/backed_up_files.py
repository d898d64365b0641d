"""Which files of one machine are its configuration."""

from __future__ import annotations

from pathlib import Path

from phoenix_orch.orchestrator.layout import Layout
from phoenix_orch.recovery.sources.config_files import FileItems


def config_files(layout: Layout, *, file: Path | None = None) -> FileItems:
    """What is applied and what serves of it, digests of tokens, what people said about freezes and approvals;
    and `file`, the phoenix.yaml that a person wrote, where that is known. Neither the key of masks nor the
    first token."""
    files = {
        path.name: path
        for path in (layout.config, layout.serving, layout.tokens, layout.freezes, layout.approvals)
    }
    if file is not None:
        files["phoenix.yaml"] = file
    return FileItems(files)
