"""How processes are run, where the service's own description does not say."""

from __future__ import annotations

from dataclasses import dataclass, field

from phoenix_orch.workload.ports import PortRange


@dataclass(frozen=True, slots=True)
class ProcessSettings:
    """Times are seconds of real time, sizes bytes."""

    ports: PortRange = field(default_factory=PortRange)
    log_size: int = 10 * 1024 * 1024
    """A log that has grown beyond this is rotated."""
    log_keep: int = 3
    """Rotated files kept of each instance."""
    log_instances: int = 20
    """Instances of each service whose logs are kept after they have gone."""
    start_deadline: float = 600.0
    """An instance that has not been ready this long after its start is started again."""
    memory_interval: float = 1.0
    """Between two looks at memory, where a limit is set."""
    notice: float = 0.5
    """Between calling an instance unready because of its memory and ending it: time for the router."""
    stray_grace: float = 5.0
    """Between SIGTERM and SIGKILL for processes nobody knows of."""
    housekeeping: float = 1.0
    """Between two looks at log sizes, and two tries to write a state file that could not be written."""
