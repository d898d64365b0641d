"""What the serving processes of both variants say of themselves, and the kernel of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from phoenix_orch.health_validator import counters
from phoenix_orch.health_validator.counters import Sample
from phoenix_orch.health_validator.sources.exposition import (
    Key,
    Page,
    plain_values,
    process_interest,
    process_page,
)
from phoenix_orch.health_validator.sources.resources import ProcessResources, Resources
from phoenix_orch.health_validator.sources.scrape import Scraper
from phoenix_orch.health_validator.sources.sieve import Interest
from phoenix_orch.health_validator.sources.source import Context
from phoenix_orch.workload.workload import Instance


def kernel_name(instance: str) -> str:
    """The name under which the kernel's counters of an instance are followed."""
    return f"{instance}/os"


@dataclass(slots=True)
class Processes:
    """The answers of one moment."""

    samples: list[Sample] = field(default_factory=list)
    answered: set[str] = field(default_factory=set)
    """Instances whose page could be read."""
    memory: dict[str, int] = field(default_factory=dict)
    """Resident bytes by instance."""
    values: dict[str, dict[str, float]] = field(default_factory=dict)
    """Plain values by instance and their name in the spec."""
    faults: list[str] = field(default_factory=list)


class Place(NamedTuple):
    """Where the page of an instance is: `url`, or nowhere, and `fault` says why."""

    url: str
    fault: str = ""


Locate = Callable[[Instance], Place]


def on_this_machine(instance: Instance) -> Place:
    """The page of a process on its own port."""
    if instance.metrics_path is None:
        return Place("", f"{instance.name} has no metrics path")
    return Place(f"http://127.0.0.1:{instance.port}{instance.metrics_path}")


class ProcessReader:
    """Reads `/metrics` and resource use of all serving processes at once."""

    def __init__(
        self, scraper: Scraper, resources: Resources | None = None, *, locate: Locate = on_this_machine
    ) -> None:
        self._scraper = scraper
        self._resources = resources or ProcessResources()
        self._locate = locate

    async def read(self, context: Context, *, traffic: bool) -> Processes:
        """`traffic`: whether processes count the requests; otherwise their pages are read only for what is
        asked of them besides. The kernel is always asked."""
        instances = [i for revision in context.revisions for i in context.instances(revision)]
        result = Processes()
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.to_thread(self._usage, instances, result))
            if traffic or context.business or context.values:
                interest = process_interest(context.business, context.values, traffic=traffic)
                for instance in instances:
                    group.create_task(self._page(context, instance, interest, result))
        return result

    async def _page(
        self, context: Context, instance: Instance, interest: Interest, result: Processes
    ) -> None:
        url, nowhere = self._locate(instance)
        if nowhere:
            result.faults.append(nowhere)
            return
        answer = await self._scraper.get(url, interest)
        text = answer.text
        if text is None:
            result.faults.append(answer.fault)
            return

        def parse() -> tuple[Page, dict[str, float]]:
            page = process_page(text, instance.revision, context.business)
            return page, plain_values(text, context.values) if context.values else {}

        try:
            page, values = await self._scraper.beside(parse, lines=text.count("\n"))
        except ValueError as error:
            result.faults.append(f"{instance.name} {url}: {error}")
            return
        if context.values:
            result.values[instance.name] = values
        started = page.started if page.started is not None else instance.started
        result.samples.append(Sample(instance.name, started, page.series, _pid(instance, page)))
        result.answered.add(instance.name)

    def _usage(self, instances: Iterable[Instance], result: Processes) -> None:
        for instance in instances:
            usage = self._resources.read(instance.pid, instance.started) if instance.pid is not None else None
            if usage is None:
                continue
            key = str(Key(instance.revision, "cpu", "", ""))
            counted = ((key, usage.cpu_seconds * 1000),)
            sample = Sample(kernel_name(instance.name), instance.started, counted, instance.pid)
            result.samples.append(sample)
            result.memory[instance.name] = usage.memory


def _pid(instance: Instance, page: Page) -> int | None:
    """Of the process that answered, if that is the one the workload told of. Another one may have taken its
    place since; and of a program with workers one of these answers."""
    if page.started is None or instance.started is None:
        return instance.pid
    return instance.pid if counters.same_start(page.started, instance.started) else None
