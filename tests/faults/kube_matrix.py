"""The fault matrix of a cluster: which calls a release makes, and what came of each fault at each of them.

    python -m tests.faults.kube_matrix calls [I/N]              # record the calls of releases without faults
    python -m tests.faults.kube_matrix run [I/N] [--at-once K]  # play every case without an outcome
    python -m tests.faults.kube_matrix page                     # write docs/reference/fault-matrix.md

Calls and outcomes are in `kube_calls.json` and `kube_outcomes.json`. One `run` plays K releases side by side
on one API server; several may run at once, each with its part: `run 1/3`, `run 2/3`, `run 3/3`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import json
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.cluster import given
from tests.cluster.kubectl import Cluster
from tests.ending import end_in_order
from tests.faults.kube_case import Fault, Outcome, Story, endings, faults_of, play
from tests.faults.kube_page import NOT_MADE, PAGE, render
from tests.faults.kube_stage import HTTP_ROUTE, INGRESS, ROUTERS

from phoenix_orch.runtime.valkey_server import ValkeyServer
from phoenix_orch.testing.api_faults import WRITES

CALLS = Path(__file__).with_name("kube_calls.json")
OUTCOMES = Path(__file__).with_name("kube_outcomes.json")
AT_ONCE = 2
ATTEMPTS = 6
RECORDINGS = ((INGRESS, Story.GOOD), (INGRESS, Story.BAD), (HTTP_ROUTE, Story.GOOD), (HTTP_ROUTE, Story.BAD))


@dataclass(frozen=True, order=True)
class Case:
    """One fault at one call."""

    router: str
    story: Story
    call: str
    fault: Fault

    def __str__(self) -> str:
        return f"{self.router}, {self.story}: {self.fault}: {self.call}"


WEIGHT = "orchestrator: patch ingress web-canary: weight 20"
TEMPLATE = "orchestrator: patch deployment web: template"
RECORD = "orchestrator: update rollout/status, Progressing 1"
LATCH = "rollback-controller: patch ingress web-canary: weight 0 and latch"
CHOSEN = frozenset(
    {
        Case(INGRESS, Story.GOOD, WEIGHT, Fault.KILL_BEFORE),
        Case(INGRESS, Story.GOOD, WEIGHT, Fault.DELETION),
        Case(INGRESS, Story.GOOD, TEMPLATE, Fault.KILL_AFTER),
        Case(INGRESS, Story.GOOD, TEMPLATE, Fault.TIME_OUT),
        Case(INGRESS, Story.GOOD, RECORD, Fault.CONFLICT),
        Case(INGRESS, Story.GOOD, RECORD, Fault.DELETION),
        Case(INGRESS, Story.BAD, LATCH, Fault.KILL_BEFORE),
        Case(INGRESS, Story.BAD, LATCH, Fault.ERROR),
    }
)
"""Of calls that decide something: these are played by default."""


def calls(path: Path = CALLS) -> dict[tuple[str, Story], tuple[str, ...]]:
    """By router and story, in the order in which they came."""
    found = json.loads(path.read_text("utf-8"))
    return {
        (router, Story(story)): tuple(listed)
        for router, stories in found.items()
        for story, listed in stories.items()
    }


def cases() -> Iterator[Case]:
    """Every call once: of the bad release those that the good one has not, of a route those about it."""
    met: set[tuple[str, str]] = set()
    for (router, story), listed in calls().items():
        for call in listed:
            if router == HTTP_ROUTE and "httproute" not in call:
                continue
            if (router, call) not in met:
                met.add((router, call))
                yield from (Case(router, story, call, fault) for fault in faults_of(call))


def outcomes() -> dict[Case, str]:
    """How each case ended; what else was wrong stands in brackets."""
    lines = json.loads(OUTCOMES.read_text("utf-8")) if OUTCOMES.exists() else []
    return {
        Case(line["router"], Story(line["story"]), line["call"], Fault(line["fault"])): line["end"]
        for line in lines
    }


def writes(call: str) -> bool:
    """The call changes something, and no Lease."""
    verb, _, rest = call.partition(": ")[2].partition(" ")
    return verb in WRITES and not rest.startswith("lease")


def by_cell() -> dict[tuple[str, Story, str, Fault], str]:
    """The outcomes as the page takes them."""
    return {(one.router, one.story, one.call, one.fault): end for one, end in outcomes().items()}


def keep(new: dict[Case, str]) -> None:
    """Add them to what is kept. Several processes may do so at once."""
    with _alone(OUTCOMES):
        known = outcomes() | new
        _write({case: known[case] for case in cases() if case in known})


@contextlib.contextmanager
def _alone(file: Path) -> Iterator[None]:
    """Several processes may write it."""
    with Path(tempfile.gettempdir(), f"phoenix-{file.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _write(known: dict[Case, str]) -> None:
    lines = [
        {"router": case.router, "story": case.story, "call": case.call, "fault": case.fault, "end": end}
        for case, end in sorted(known.items())
    ]
    OUTCOMES.write_text(json.dumps(lines, indent=1) + "\n", "utf-8")


def said(outcome: Outcome) -> str:
    """One word for the table; more where a rule was broken."""
    if not outcome.struck:
        return NOT_MADE
    end = outcome.end or "(no end)"
    return f"{end} ({'; '.join(outcome.broken)})" if outcome.broken else str(end)


def allowed(case: Case) -> frozenset[str]:
    """How a release may end in which the fault struck."""
    return frozenset(str(end) for end in endings(case.story, case.call, case.fault))


async def play_case(cluster: Cluster, store: str, folder: Path, case: Case) -> Outcome:
    """A case whose call was not made, which timing may do, is played again, with other timing."""
    for attempt in range(ATTEMPTS):
        outcome = await play(
            cluster,
            store,
            folder,
            story=case.story,
            router=case.router,
            call=case.call,
            fault=case.fault,
            slowed=attempt,
        )
        if outcome.struck:
            break
    return outcome


async def _record(cluster: Cluster, store: str, folder: Path, part: int, parts: int) -> None:
    """Each release once. What is known already stays: not every run asks for the same."""
    for router, story in RECORDINGS[part::parts]:
        outcome = await play(cluster, store, folder, story=story, router=router)
        assert outcome.end is not None, outcome.told
        assert not outcome.broken, outcome
        with _alone(CALLS):
            found = {one: dict.fromkeys(listed) for one, listed in calls().items()} if CALLS.exists() else {}
            found.setdefault((router, story), {}).update(dict.fromkeys(outcome.calls))
            listed = {
                one: {other: list(found[one, other]) for other in Story if (one, other) in found}
                for one in ROUTERS
            }
            CALLS.write_text(json.dumps(listed, indent=1) + "\n", "utf-8")


async def _run(cluster: Cluster, store: str, folder: Path, part: int, parts: int, at_once: int) -> None:
    known = outcomes()
    missing = [case for case in cases() if known.get(case) not in {*allowed(case), NOT_MADE}]
    missing.sort(key=lambda case: (case in known, case not in CHOSEN, not writes(case.call)))
    waiting = missing[part::parts]
    places = asyncio.Semaphore(at_once)

    async def one(case: Case) -> None:
        async with places:
            outcome = await play_case(cluster, store, folder, case)
        end = said(outcome)
        keep({case: end})
        well = end in {*allowed(case), NOT_MADE}
        sys.stdout.write(f"{'' if well else 'WRONG '}{case}: {end}\n")
        sys.stdout.write("" if well else f"{outcome.told[-8000:]}\n")
        sys.stdout.flush()

    async with asyncio.TaskGroup() as group:
        for case in waiting:
            group.create_task(one(case))


Play = Callable[[Cluster, str, Path], Awaitable[None]]


async def _with_a_cluster(work: Play) -> None:
    with tempfile.TemporaryDirectory(prefix="phoenix-matrix-") as name, given.any_cluster() as cluster:
        keeper = ValkeyServer(Path(name) / "valkey")
        try:
            await work(cluster, (await keeper.ensure()).url, Path(name))
        finally:
            await keeper.stop()


def _part(text: str) -> tuple[int, int]:
    """`2/3` is the second of three parts: (1, 3)."""
    part, _, parts = text.partition("/")
    return int(part) - 1, int(parts)


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["calls", "run", "page"])
    parser.add_argument("part", nargs="?", type=_part, default="1/1", metavar="I/N")
    parser.add_argument("--at-once", type=int, default=AT_ONCE, metavar="K")
    return parser.parse_args()


if __name__ == "__main__":
    end_in_order()
    asked = _asked()
    part, parts = asked.part
    match asked.what:
        case "page":
            PAGE.write_text(render(by_cell(), calls(), of=len(list(cases()))), "utf-8")
        case "calls":
            asyncio.run(_with_a_cluster(partial(_record, part=part, parts=parts)))
        case "run":
            asyncio.run(_with_a_cluster(partial(_run, part=part, parts=parts, at_once=asked.at_once)))
