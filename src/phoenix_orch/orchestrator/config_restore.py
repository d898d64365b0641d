"""A restore of configuration by a person, with their own rights, needing neither our API nor a store."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import Field

from phoenix_orch.kernel.errors import Invalid, Outdated, Retryable
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.config import load
from phoenix_orch.kube.resources import Object
from phoenix_orch.orchestrator.cluster.access import Access
from phoenix_orch.orchestrator.config_history import ConfigCommit
from phoenix_orch.recovery import keys
from phoenix_orch.recovery.config_repository import ConfigRepository
from phoenix_orch.recovery.restore import config_apply, config_plan, config_wished
from phoenix_orch.recovery.restore.config_plan import Name, Plan
from phoenix_orch.rollout.spec import Model
from phoenix_orch.runtime.files import make_private


@dataclass(frozen=True, slots=True, repr=False)
class Wanted:
    """What is to be put back, with values of secrets: it is never shown."""

    objects: Sequence[Object]
    commit: ConfigCommit
    namespaces: tuple[str, ...]


class ConfigStep(Model):
    """What would be done to one object."""

    act: str
    object: str
    fields: tuple[str, ...] = ()


class ConfigPlan(Model):
    """What a restore of configuration would do."""

    commit: str
    hash: str
    """To confirm it; empty where nothing would be done."""
    steps: tuple[ConfigStep, ...]
    unchanged: int
    refused: dict[str, str] = Field(default_factory=dict)
    """What the cluster would not take, and why; it was asked about every step."""
    unasked: dict[str, str] = Field(default_factory=dict)
    """What it could not be asked about: that takes the right to do it."""


class ConfigRestored(Model):
    """What a restore of configuration has done."""

    done: int
    rolled: tuple[str, ...]
    unready: dict[str, str]


def wanted(
    repository: ConfigRepository, commit: ConfigCommit, identity: Path, namespaces: tuple[str, ...]
) -> Wanted:
    """Raises WrongKey, Corrupted, NotFound, Invalid; this one also for a bundle of one machine."""
    identities = [one.key for one in keys.read(identity)]
    objects = config_wished.wished(repository, commit.commit, identities, namespaces)
    if not objects:
        raise Invalid(
            f"commit {commit.commit[:12]} has no objects of a cluster",
            remedy="the configuration of one machine is put back by hand: git clone BUNDLE configuration; "
            "SOPS_AGE_KEY_FILE=KEY sops decrypt configuration/default/File/serving.json.sops > phoenix.json; "
            "phoenix up -f phoenix.json",
        )
    return Wanted(objects, commit, namespaces)


def write(wanted: Wanted, path: Path) -> None:
    """For `kubectl apply -f`. Raises Invalid."""
    at = f"{wanted.commit.at:%Y-%m-%dT%H:%M:%SZ}"
    head = [
        f"The configuration as it was at {at}, commit {wanted.commit.commit}.",
        "Values of secrets are in it: remove it when it is applied.",
    ]
    config_wished.write(path, config_wished.rendered(wanted.objects, head))


def plan(wanted: Wanted, access: Access) -> ConfigPlan:
    """Also what the cluster would refuse of it: it is asked, and nothing is written. Raises Forbidden,
    Retryable."""

    async def look() -> ConfigPlan:
        async with _client(access) as client:
            found = await _planned(client, wanted)
            refused = await config_apply.refusals(client, found)
        told = {
            right: {str(one.name): one.why for one in refused if one.right is right}
            for right in (True, False)
        }
        return _viewed(found).model_copy(update={"refused": told[False], "unasked": told[True]})

    return asyncio.run(look())


def look(wanted: Wanted, access: Access, confirmed: str) -> ConfigPlan:
    """Everything that `run` looks at before it changes something; the cluster tries all of it, too.

    Raises Outdated where the plan is not the one that was confirmed."""

    async def tried() -> Plan:
        async with _client(access) as client:
            found = await _planned(client, wanted)
            if found.acts or found.rolled:
                _refuse_outdated(found, confirmed)
                await config_apply.tried(client, found)
            return found

    return _viewed(asyncio.run(tried()))


def run(
    wanted: Wanted,
    access: Access,
    confirmed: str,
    within: float,
    journal: Path,
    *,
    around: Callable[[ConfigPlan], AbstractContextManager[dict[str, Any]]] = lambda _: nullcontext({}),
) -> ConfigRestored:
    """`around`: entered with what is done, before anything is; it is given what was done, to be recorded.

    Raises Outdated where the plan is not the one that was confirmed, and what the steps raise."""

    async def act() -> ConfigRestored:
        async with _client(access) as client:
            found = await _planned(client, wanted)
            if not found.acts and not found.rolled:
                return ConfigRestored(done=0, rolled=(), unready={})
            _refuse_outdated(found, confirmed)
            await config_apply.tried(client, found)
            with around(_viewed(found)) as told:
                note = _Journal(journal, found).note
                applied = await config_apply.carry_out(client, found, note, within=within)
                done = ConfigRestored(
                    done=applied.done,
                    rolled=tuple(map(str, applied.rolled)),
                    unready={str(name): why for name, why in applied.unready},
                )
                told.update(done.model_dump(mode="json", by_alias=True))
            return done

    return asyncio.run(act())


def _refuse_outdated(found: Plan, confirmed: str) -> None:
    if found.hash != confirmed:
        raise Outdated(
            f"the plan is {found.hash} by now, and {confirmed} was confirmed",
            remedy="look at it again: phoenix restore plan config",
        )


async def _planned(client: KubeClient, wanted: Wanted) -> Plan:
    namespaces = sorted({config_plan.name_of(one).namespace for one in wanted.objects})
    live = await config_apply.live(client, namespaces)
    return config_plan.plan(wanted.objects, live, source=wanted.commit.commit)


def _client(access: Access) -> KubeClient:
    target = load(access.kubeconfig, context=access.context, namespace=access.namespace)
    return KubeClient(target, component="person", manager=config_apply.MANAGER)


def _viewed(found: Plan) -> ConfigPlan:
    steps = tuple(ConfigStep.model_validate(one) for one in config_apply.described(found))
    does = bool(found.acts or found.rolled)
    return ConfigPlan(
        commit=found.source, hash=found.hash if does else "", steps=steps, unchanged=found.unchanged
    )


class _Journal:
    """What a restore does, line by line, on the disk before it goes on."""

    def __init__(self, path: Path, found: Plan) -> None:
        self._path = path
        self._plan = found.hash
        try:
            make_private(path.parent)
        except OSError as error:
            raise self._failed(error) from error

    def note(self, act: str, name: Name, how: str) -> None:
        line = {
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "plan": self._plan,
            "act": act,
            "object": str(name),
            "how": how,
        }
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                os.write(descriptor, json.dumps(line).encode() + b"\n")
                os.fdatasync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> Retryable:
        return Retryable(
            f"the journal {self._path} cannot be written: {error.strerror}",
            remedy="make room on its disk, and plan again",
        )
