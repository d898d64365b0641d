"""What a supervisor has to know of a service after it was killed, in one file.

`<data>/services/<service>/instances.json` is replaced in one rename at every change. Its `state` is
what other processes read; the rest is for the next supervisor. It holds the environment of the
service, so only its owner may read it. It is not synced to the disk: it has to outlive Phoenix, and
a machine that lost power has no processes to adopt.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from phoenix_orch.kernel.errors import Invalid, NotFound
from phoenix_orch.runtime.files import make_private
from phoenix_orch.workload.spec import ServiceSpec, Template
from phoenix_orch.workload.workload import WorkloadState

FORMAT = 1
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


class InstanceRecord(BaseModel):
    """What `Instance` does not tell the world, but the next supervisor has to know."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    ordinal: int
    retiring: bool = False
    been_ready: bool = False
    failures: int = 0
    """Unexpected ends in a row, for the back-off."""
    start_at: float | None = None
    """While it waits: when its next start is due, in seconds since 1970."""
    kill_at: float | None = None
    """It has been told to end: when it gets SIGKILL, in seconds since 1970."""
    ready_at: float | None = None
    """Since when it has been ready without a break, in seconds since 1970."""


class ServiceRecord(BaseModel):
    """The whole file."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    format: int = FORMAT
    boot: str = ""
    """The run of the kernel in which it was written."""
    spec: ServiceSpec
    templates: dict[str, Template] = Field(default_factory=dict)
    """By revision; of every revision that is wanted or has instances."""
    next_ordinal: int = 1
    state: WorkloadState
    records: dict[str, InstanceRecord] = Field(default_factory=dict)
    """By name of the instance."""


class Layout:
    """Paths below `<data>/services/<service>`."""

    def __init__(self, data_dir: Path, service: str) -> None:
        """Raises Invalid for a name that could lead elsewhere."""
        if not _NAME.fullmatch(service):
            raise Invalid(
                f"{service!r} is not the name of a service",
                remedy="use lower-case letters, digits and hyphens",
            )
        self.directory = data_dir / "services" / service
        self.state = self.directory / "instances.json"
        self.logs = self.directory / "logs"

    def log(self, instance: str) -> Path:
        return self.logs / f"{instance}.log"


def services(data_dir: Path) -> list[str]:
    """Services with a state file below `data_dir`, sorted."""
    return sorted(path.parent.name for path in (data_dir / "services").glob("*/instances.json"))


def write(path: Path, record: ServiceRecord) -> None:
    """Replace the file so that readers find the old or the new text. Raises OSError."""
    make_private(path.parent)
    temporary = path.with_name(f".{path.name}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(record.model_dump_json())
    temporary.replace(path)


def read(path: Path) -> ServiceRecord:
    """Raises NotFound without a file and Invalid for one that cannot be understood."""
    try:
        record = ServiceRecord.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise NotFound(
            f"there is no service {path.parent.name!r} here",
            remedy="phoenix service list shows those there are",
        ) from None
    except (OSError, ValidationError) as error:
        raise Invalid(f"{path} cannot be read: {_first_line(error)}", remedy="move it away") from None
    if record.format != FORMAT:
        raise Invalid(
            f"{path} has format {record.format}; this release of Phoenix knows {FORMAT}",
            remedy="use the release of Phoenix that wrote it",
        )
    return record


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(error)
