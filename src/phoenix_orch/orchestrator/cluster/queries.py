"""The queries of a Rollout: one number for each variant, from PromQL that its owner wrote."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from datetime import timedelta

from phoenix_orch.health_validator.observation import Arm
from phoenix_orch.health_validator.sources.prometheus_questions import Questions, number
from phoenix_orch.health_validator.sources.source import Context, Reading
from phoenix_orch.kernel import placeholders
from phoenix_orch.kernel.errors import PhoenixError
from phoenix_orch.orchestrator.cluster.declared import Declared
from phoenix_orch.rollout.kubernetes_spec import QueryValue

ANY_POD = ".*"


def filled(query: QueryValue, *, namespace: str, pods: str, window: timedelta) -> str:
    """The query as Prometheus gets it. `pods`: a regular expression. Pure."""
    places = {"namespace": namespace, "pods": pods, "window": _duration(window)}
    return placeholders.fill(query.query, places)


def pattern(names: Iterable[str]) -> str:
    """A regular expression for exactly these pods, fit for any kind of quotes. Pure."""
    return "|".join(name.replace(".", "[.]") for name in sorted(names))


def _duration(window: timedelta) -> str:
    milliseconds = round(window.total_seconds() * 1000)
    return f"{milliseconds // 1000}s" if milliseconds % 1000 == 0 else f"{milliseconds}ms"


async def with_queries(one: Declared, context: Context, reading: Reading, questions: Questions) -> Reading:
    """The same reading, and what the queries say of both variants. One without an answer is left out, and
    why is in the notes: the judge knows nothing of it then (R1)."""
    seen = reading.observation
    revisions = [arm.revision for arm in (seen.canary, seen.stable) if arm is not None]
    found = await asyncio.gather(
        *(_answer(one, context, query, revision, questions) for revision in revisions for query in _of(one))
    )
    values: dict[str, dict[str, float]] = {revision: {} for revision in revisions}
    faults = []
    for revision, name, value, fault in found:
        if value is not None:
            values[revision][name] = value
        if fault:
            faults.append(fault)
    update = {
        "canary": _told(seen.canary, values),
        "stable": _told(seen.stable, values) if seen.stable is not None else None,
        "notes": (*seen.notes, *dict.fromkeys(faults))[:8],
    }
    return Reading(seen.model_copy(update=update), reading.memory)


def _of(one: Declared) -> tuple[QueryValue, ...]:
    return one.spec.evidence.queries


async def _answer(
    one: Declared, context: Context, query: QueryValue, revision: str, questions: Questions
) -> tuple[str, str, float | None, str]:
    """(revision, name, number, what is wrong)."""
    pods = [instance.name for instance in context.instances(revision)]
    if not pods:
        return revision, query.name, None, ""
    text = filled(query, namespace=one.namespace, pods=pattern(pods), window=one.spec.evidence.window)
    try:
        value = number(await questions.ask(text), at_least=query.minimum is not None)
    except PhoenixError as error:
        return revision, query.name, None, f"query {query.name}: {error.message}"
    fault = "" if value is not None else f"query {query.name} gives no number of {revision}"
    return revision, query.name, value, fault


def _told(arm: Arm, values: Mapping[str, Mapping[str, float]]) -> Arm:
    return arm.model_copy(update={"values": {**arm.values, **values[arm.revision]}})
