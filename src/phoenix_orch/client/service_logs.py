"""What the instances of a service wrote: asked of Phoenix, or read from its files where it does not run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from phoenix_orch.client.client import Client
from phoenix_orch.kernel.errors import NotFound, Retryable
from phoenix_orch.orchestrator.views import LogLine, LogPage
from phoenix_orch.workload import log_times, state_file
from phoenix_orch.workload.logs import ServiceLogs
from phoenix_orch.workload.workload import WorkloadState


class ServiceLogReader:
    """Reads the logs of one service. `begin` first, then `more` as often as one likes."""

    def __init__(self, client: Client, data_dir: Path, service: str) -> None:
        self._client = client
        self._data_dir = data_dir
        self._service = service

    def begin(self, *, lines: int, instance: str | None = None) -> LogPage:
        """The last `lines` lines of all instances there are, in the order of their times; of each so many
        where some line has no time. Where no instance is there, of those that were. Of one instance, living
        or not, if given.

        Raises NotFound for an unknown service or instance.
        """
        page, workload = self._page(instance, lines, {})
        if instance is not None:
            return page
        present = {one.name for one in workload.instances} if workload is not None else set()
        present &= {line.instance for line in page.lines}  # nobody there: the last words of those who were
        written: dict[str, list[str]] = {}
        for line in page.lines:
            if line.instance in present or not present:
                written.setdefault(line.instance, []).append(line.text)
        found = log_times.last(written, lines)
        return page.model_copy(
            update={"lines": tuple(LogLine(instance=name, text=text) for name, text in found)}
        )

    def more(self, after: Mapping[str, int], *, lines: int, instance: str | None = None) -> LogPage:
        """What was written after the places of an earlier page."""
        return self._page(instance, lines, after)[0]

    def _page(
        self, instance: str | None, lines: int, after: Mapping[str, int]
    ) -> tuple[LogPage, WorkloadState | None]:
        """A page, and which instances there are now."""
        try:
            workload = None if after else self._client.service(self._service).workload
            return self._client.logs(self._service, instance=instance, lines=lines, after=after), workload
        except Retryable as silent:
            try:
                return self._from_files(instance, lines, after)
            except NotFound as error:
                raise type(silent)(f"{silent.message}; and {error.message}", remedy=error.remedy) from error

    def _from_files(
        self, instance: str | None, lines: int, after: Mapping[str, int]
    ) -> tuple[LogPage, WorkloadState]:
        layout = state_file.Layout(self._data_dir, self._service)
        workload = state_file.read(layout.state).state
        logs = ServiceLogs(self._data_dir, self._service)
        known = logs.instances()
        if instance is not None and instance not in known:
            raise NotFound(
                f"there is no log of an instance {instance!r} of {self._service}",
                remedy=f"instances with a log: {', '.join(known) or 'none'}",
            )
        page = logs.tail(instance, lines=lines, since=after)
        shown = tuple(LogLine(instance=line.instance, text=line.text) for line in page.lines)
        return LogPage(lines=shown, offsets=dict(page.places)), workload
