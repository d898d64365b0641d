"""What phoenix.yaml says of folders, as sources that can be copied."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from phoenix_orch.recovery.backup_source import BackupSource
from phoenix_orch.recovery.sources.files import FilesSource
from phoenix_orch.recovery.sources.volume_spec import VolumeSpec

KIND = "volume"


def component_of(name: str) -> str:
    """By which a folder of this name is backed up."""
    return f"{KIND}/{name}"


def configured(specs: Mapping[str, VolumeSpec], notes: Path) -> dict[str, Callable[[], BackupSource]]:
    """By component. Nothing is read before one is called. `notes`: of applications at rest (`hooks.py`)."""
    return {
        component_of(name): partial(FilesSource, component_of(name), Path(spec.path), spec, notes=notes)
        for name, spec in specs.items()
    }
