"""Carries out a plan of configuration: tried whole on the API server first, then done step by step.

It may die anywhere and be started again with a new plan. What was done is no difference any more; workloads
that are still to be rolled carry a mark from before the first step, and are in the new plan for that.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import Any

from phoenix_orch.kernel.errors import Conflict, Invalid, NotFound, PhoenixError
from phoenix_orch.kernel.secrets import Secrets
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.errors import Forbidden
from phoenix_orch.kube.patches import json_patch, merge_patch_of, pointer
from phoenix_orch.kube.patches import test as holds
from phoenix_orch.kube.resources import CONFIG_MAPS, SECRETS, Object, Resource
from phoenix_orch.recovery.restore.config_plan import (
    KIND_OF,
    Act,
    Name,
    Plan,
    Step,
    name_of,
    resource_of,
)
from phoenix_orch.recovery.restore.config_rolled import Progress, progress
from phoenix_orch.recovery.sources.config_objects import KINDS, PENDING, RESTARTED_AT, SECRET_PARTS

MANAGER = "phoenix-restore"
"""Who owns the fields that are put back: give it to the client."""
LOOK = 1.0
"""Seconds between two looks at workloads that are rolled: their status is all there is to see."""
_AGAIN = 5
"""Times a mark is written anew when somebody else changed the workload meanwhile."""
Journal = Callable[[str, Name, str], None]
"""What is done to what, and how it went: `begin`, `done`, `failed: …`. Never a value."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What came of it."""

    done: int
    rolled: tuple[Name, ...]
    unready: tuple[tuple[Name, str], ...] = ()
    """Workloads that do not serve with what was put back, and why."""


async def live(
    client: KubeClient, namespaces: Sequence[str], kinds: Sequence[Resource] = KINDS
) -> list[Object]:
    """All objects of the kinds, with the kind in each. A kind that the cluster does not know has none."""
    found: list[Object] = []
    for namespace in namespaces:
        for resource in kinds:
            with contextlib.suppress(NotFound):
                async for page in client.pages(client.selection(resource, namespace)):
                    typed = {"apiVersion": resource.api_version, "kind": resource.kind}
                    found += [{**one, **typed} for one in page.items]
    return found


async def tried(client: KubeClient, plan: Plan) -> None:
    """Ask the API server about every step without doing it. Raises Invalid with all that it refuses."""
    refused = await refusals(client, plan)
    if refused:
        told = "; ".join(f"{one.name}: {one.why}" for one in refused)
        raise Invalid(
            f"the cluster refuses {len(refused)} of {len(plan.acts)} steps: {told}",
            remedy="nothing was done; mend that, and plan again",
        )


@dataclass(frozen=True, slots=True)
class Refusal:
    """A step that the API server would not do."""

    name: Name
    why: str
    """In its words, without values of secrets."""
    right: bool
    """It is a right that whoever asks has not: another person may have it."""


async def refusals(client: KubeClient, plan: Plan) -> list[Refusal]:
    """What the API server says of steps that it would not do (`dryRun=All`); nothing is written.

    Raises Retryable where it does not answer."""
    refused = []
    for step in plan.acts:
        try:
            with _hidden(step):
                await _try(client, step)
        except (Invalid, Forbidden, Conflict) as error:
            right = isinstance(error, Forbidden) and not error.admission
            refused.append(Refusal(step.name, error.message, right))
    return refused


@dataclass(frozen=True, slots=True)
class Accepted:
    """What the API server said of objects that were not put there."""

    taken: int
    unasked: tuple[str, ...]
    """Kinds about which it may not be asked: asking takes the right to do it."""


async def accepted(client: KubeClient, objects: Sequence[Object]) -> Accepted:
    """Ask the API server whether it would take each (`dryRun=All`). Raises Invalid with all it refuses."""
    taken, unasked, refused = 0, dict[str, None](), list[str]()
    for one in objects:
        name = name_of(one)
        if name.kind in unasked:
            continue
        step = Step(Act.CHANGE, name, one)
        try:
            with _hidden(step):
                await _try(client, step)
        except Forbidden as error:
            if error.admission:
                refused.append(f"{name}: {error.message}")
            else:
                unasked[name.kind] = None
        except (Invalid, Conflict) as error:
            refused.append(f"{name}: {error.message}")
        else:
            taken += 1
    if refused:
        raise Invalid(
            f"the cluster would refuse {len(refused)} of {len(objects)} objects: {'; '.join(refused)}",
            remedy="mend what refuses them, or what is backed up",
        )
    return Accepted(taken, tuple(unasked))


async def _try(client: KubeClient, step: Step) -> None:
    resource, body = _of(step)
    if step.act is Act.REPLACE:
        await client.delete(resource, step.name.name, step.name.namespace, uid=step.uid, dry_run=True)
        # under another name, since under this one there is still the object that cannot be changed
        body["metadata"]["name"] = f"{step.name.name[:240]}-restored"
    await client.apply(resource, body, step.name.namespace, force=True, dry_run=True)


async def carry_out(
    client: KubeClient,
    plan: Plan,
    journal: Journal,
    *,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    within: float = 600.0,
) -> Applied:
    """Do it, in order, and wait until what was rolled serves, `within` seconds; 0: do not wait.

    Raises the first error of a step: what was done stays done, and a new plan has the rest.
    """
    at = now().astimezone(UTC).isoformat(timespec="seconds")
    for name in plan.rolled:
        async with _told(journal, "mark", name):
            await _marked(client, name, {"metadata": {"annotations": {PENDING: at}}})
    for step in plan.acts:
        async with _told(journal, step.act.value, step.name):
            with _hidden(step):
                await _do(client, step)
    for name in plan.rolled:
        async with _told(journal, "roll", name):
            template = {"metadata": {"annotations": {RESTARTED_AT: at}}}
            await _marked(
                client, name, {"metadata": {"annotations": {PENDING: None}}, "spec": {"template": template}}
            )
    watched = [
        step.name for step in plan.acts if step.name.kind in ("Deployment", "StatefulSet", "DaemonSet")
    ]
    unready = await _awaited(client, [*plan.rolled, *watched], within) if within else ()
    return Applied(len(plan.acts), plan.rolled, unready)


async def _do(client: KubeClient, step: Step) -> None:
    resource, body = _of(step)
    name, namespace = step.name.name, step.name.namespace
    if step.act is Act.REPLACE:
        with contextlib.suppress(NotFound):
            await client.delete(resource, name, namespace, uid=step.uid)
    elif step.uid:
        body["metadata"]["uid"] = step.uid  # another object of this name is another decision
    applied = await client.apply(resource, body, namespace, force=True)
    gone = [
        {"op": "remove", "path": pointer(*field)}
        for field in (extra.split(".", 1) for extra in step.extra)
        if _at(applied, field)
    ]
    if gone and step.act is Act.CHANGE:
        # apply takes away only what the same manager had applied
        same = holds("/metadata/resourceVersion", applied["metadata"]["resourceVersion"])
        await client.patch(resource, name, json_patch([same, *gone]), namespace)


def _at(found: Object, field: Sequence[str]) -> bool:
    """The part of the data, or the value in it, is there."""
    part = found.get(field[0]) or {}
    return bool(part) if len(field) == 1 else field[1] in part


def _of(step: Step) -> tuple[Resource, Object]:
    """Where the object is kept, and a body that may be changed."""
    assert step.wished is not None
    resource = resource_of(step.wished)
    metadata = {**step.wished["metadata"], "namespace": step.name.namespace}
    return resource, {**step.wished, "metadata": metadata}


async def _marked(client: KubeClient, name: Name, changes: Object) -> None:
    """A change of a workload on whatever version of it there is. One that is gone needs none."""
    resource = KIND_OF[name.kind]
    for attempt in range(_AGAIN):
        try:
            found = await client.get(resource, name.name, name.namespace)
            await client.patch(resource, name.name, merge_patch_of(found, changes), name.namespace)
        except NotFound:
            return
        except Conflict:
            if attempt == _AGAIN - 1:
                raise
        else:
            return


async def _awaited(client: KubeClient, names: Sequence[Name], within: float) -> tuple[tuple[Name, str], ...]:
    """Those of the workloads that do not serve in time, or never will."""
    end, left = monotonic() + within, dict.fromkeys(names, "")
    failed: dict[Name, str] = {}
    while True:
        for name in list(left):
            try:
                found = await client.get(KIND_OF[name.kind], name.name, name.namespace)
            except NotFound:
                del left[name]
                continue
            seen = progress(found, name.kind)
            left[name] = seen.said
            if seen is Progress.DONE:
                del left[name]
            elif seen is Progress.FAILED:
                failed[name] = left.pop(name)
        if not left or monotonic() >= end:
            return tuple({**failed, **left}.items())
        await asyncio.sleep(LOOK)


@contextlib.asynccontextmanager
async def _told(journal: Journal, act: str, name: Name) -> AsyncIterator[None]:
    journal(act, name, "begin")
    try:
        yield
    except PhoenixError as error:
        journal(act, name, f"failed: {error.message}")
        raise
    journal(act, name, "done")


@contextlib.contextmanager
def _hidden(step: Step) -> Iterator[None]:
    """What the API server says of a Secret may repeat its values."""
    try:
        yield
    except PhoenixError as error:
        if step.name.kind in (SECRETS.kind, CONFIG_MAPS.kind):
            secrets = Secrets(_values(step.wished or {}))
            error.message = secrets.hide(error.message)
            error.args = (error.message,)
            error.__cause__ = None
        raise


def _values(document: Object) -> Iterator[str]:
    for part in SECRET_PARTS:
        for value in (document.get(part) or {}).values():
            yield str(value)
            with contextlib.suppress(binascii.Error, ValueError, UnicodeDecodeError):
                yield base64.b64decode(value, validate=True).decode()


def described(plan: Plan) -> list[dict[str, Any]]:
    """The plan for people and programs: what is done to what, by the names of fields; no value."""
    shown = [
        {"act": step.act.value, "object": str(step.name), "fields": list(step.fields)} for step in plan.steps
    ]
    return [*shown, *({"act": "roll", "object": str(name), "fields": []} for name in plan.rolled)]
