"""phoenix.yaml of an orchestrator in a cluster: what Deployments and Rollouts do not say.

It is mounted from a ConfigMap. Tasks, backups and how long the audit log is kept are read anew when it
changes; a file that cannot be used then changes nothing, and the log says what is wrong with it.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Literal

import structlog
from pydantic import Field

from phoenix_orch.kernel import config
from phoenix_orch.kernel.config_file import read
from phoenix_orch.kernel.errors import PhoenixError
from phoenix_orch.orchestrator.api_spec import OFF, ApiSpec, HostName, absolute
from phoenix_orch.orchestrator.config import AuditSettings
from phoenix_orch.orchestrator.oidc_spec import OidcSpec
from phoenix_orch.recovery.cluster_spec import ClusterBackupSpec
from phoenix_orch.rollout.rules_file import MOST_RULES
from phoenix_orch.rollout.spec import Model, Name
from phoenix_orch.runtime.faults import Faults
from phoenix_orch.runtime.files import Stamp, stamp
from phoenix_orch.tasks.command_spec import CommandTask

LOOK = 2.0
"""Seconds between two looks whether the file has changed; a kubelet takes up to a minute to change it."""

_log = structlog.get_logger("phoenix")


class ClusterApi(Model):
    """By which names the API is called, and how often; where it listens is said on the command line."""

    hosts: tuple[HostName, ...] = ()
    """Names by which it may be called, besides those of loopback, which a port-forward has; none: any."""
    oidc: OidcSpec | None = None
    """Who else is known, besides whoever has a token of the cluster. Read at the start, as all of this."""
    requests_per_second: float = Field(default=200, gt=0)
    """Of one principal at one replica, in the long run; five times as many at once."""

    def spec(self) -> ApiSpec:
        """The same for what serves it."""
        return ApiSpec(
            listen=OFF, hosts=self.hosts, oidc=self.oidc, requests_per_second=self.requests_per_second
        )

    def placed(self, base: Path) -> ClusterApi:
        """With files that do not depend on where Phoenix is started."""
        if self.oidc is None:
            return self
        paths = absolute(self.oidc, base, "client_secret_file", "ca")
        return self.model_copy(update={"oidc": self.oidc.model_copy(update=paths)})


class ClusterTask(CommandTask):
    """A program that is run again and again, or by hand."""

    second_person: bool = False
    """It destroys something: whoever runs it by hand needs somebody else who agrees."""


class ClusterFile(Model):
    """The whole file."""

    api_version: Literal["phoenix-orch.io/v1alpha1"] = "phoenix-orch.io/v1alpha1"
    """Format of the file."""
    api: ClusterApi = ClusterApi()
    """Who gets in."""
    tasks: Annotated[dict[Name, ClusterTask], Field(max_length=MOST_RULES)] | None = None
    """Programs that are run again and again, or by hand."""
    audit: AuditSettings | None = None
    """How the audit log is kept; left out: for 400 days."""
    backup: ClusterBackupSpec | None = None
    """Where backups go, what is backed up, and how long they stay; left out: none is taken."""


def load(path: Path) -> ClusterFile:
    """Read and check it. Raises Invalid or ConfigError, which lists everything wrong.

    Relative paths are taken from where the file is. Whether a working directory is there, a run tells.
    """
    file = config.validate(read(path), ClusterFile)
    base = path.expanduser().absolute().parent
    tasks = {
        name: task.model_copy(update={"cwd": str((base / Path(task.cwd).expanduser()).absolute())})
        for name, task in (file.tasks or {}).items()
    }
    placed = {
        "api": file.api.placed(base),
        "tasks": tasks if file.tasks is not None else None,
        "backup": file.backup.placed(base) if file.backup is not None else None,
    }
    return file.model_copy(update=placed)


def destroying(file: ClusterFile) -> frozenset[str]:
    """Kinds of tasks that take two persons. Pure."""
    return frozenset(name for name, task in (file.tasks or {}).items() if task.second_person)


class FollowedFile:
    """The file as it was when it could be used last. A file that is not there says nothing."""

    def __init__(self, path: Path | None) -> None:
        """`path`: None: there is none. Raises Invalid for a file that cannot be used."""
        self._path = path
        self._known = self._stamp()
        self.held = self._read()
        self._faults = Faults(_log)

    async def run(self) -> None:
        """Look at it until cancelled."""
        while self._path is not None:
            await asyncio.sleep(LOOK)
            now = await asyncio.to_thread(self._stamp)
            if now == self._known:
                continue
            self._known = now
            try:
                self.held = await asyncio.to_thread(self._read)
            except PhoenixError as error:
                self._faults.tell(str(self._path), error=error)
            else:
                self._faults.mended(str(self._path))
                _log.info("the configuration was read anew", file=str(self._path), tasks=self._names())

    def _read(self) -> ClusterFile:
        return load(self._path) if self._path is not None and self._known is not None else ClusterFile()

    def _stamp(self) -> Stamp | None:
        return stamp(self._path) if self._path is not None else None

    def _names(self) -> list[str]:
        return sorted(self.held.tasks or {})
