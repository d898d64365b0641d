"""Which kinds of tasks there are, and the functions that do them.

    @task(kind="tidy", summary="Remove old reports", deadline="5m", retries=Retries(attempts=3))
    async def tidy(context: TaskContext, arguments: Tidy) -> Removed: ...

`Tidy` and `Removed` are pydantic models; a task without arguments takes the context alone, one without a
result returns None. A package of your own offers its tasks by an entry point of the group
`phoenix_orch.tasks` that names such a function.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import structlog
from pydantic import BaseModel, ValidationError

from phoenix_orch.kernel.config import field_path
from phoenix_orch.kernel.errors import Invalid, NotFound
from phoenix_orch.kernel.guess import did_you_mean
from phoenix_orch.tasks.context import TaskContext
from phoenix_orch.tasks.spec import TaskSpec

GROUP = "phoenix_orch.tasks"
Function = Callable[..., Awaitable[BaseModel | None]]

_log = structlog.get_logger("phoenix.tasks")


@dataclass(frozen=True, slots=True)
class TaskKind:
    """A kind of task: what it is promised, what it takes, and who does it."""

    spec: TaskSpec
    function: Function
    arguments: type[BaseModel] | None = None

    def check(self, given: dict[str, Any]) -> dict[str, Any]:
        """The arguments as they are kept. Raises Invalid, without their values."""
        if self.arguments is None:
            if given:
                raise Invalid(
                    f"task {self.spec.kind!r} takes no arguments; found {', '.join(sorted(given))}",
                    remedy="leave them out",
                )
            return {}
        try:
            return self.arguments.model_validate(given).model_dump(mode="json")
        except ValidationError as error:
            faults = "; ".join(
                f"{field_path(fault['loc']) or 'arguments'}: {fault['msg']}" for fault in error.errors()
            )
            raise Invalid(
                f"arguments of task {self.spec.kind!r}: {faults}",
                remedy=f"it takes {', '.join(self.arguments.model_fields)}",
            ) from None

    async def run(self, context: TaskContext) -> BaseModel | None:
        if self.arguments is None:
            return await self.function(context)
        return await self.function(context, self.arguments.model_validate(context.record.arguments))


def task(**spec: Any) -> Callable[[Function], TaskKind]:
    """Make a kind of task of an async function; the words are the fields of `TaskSpec`."""

    def made(function: Function) -> TaskKind:
        return TaskKind(TaskSpec(**spec), function, _arguments_of(function))

    return made


def _arguments_of(function: Function) -> type[BaseModel] | None:
    """The model of the second parameter, if there is one. Raises TypeError for what is no task."""
    name = getattr(function, "__qualname__", repr(function))
    parameters = list(inspect.signature(function).parameters)
    if not inspect.iscoroutinefunction(function) or len(parameters) not in (1, 2):
        raise TypeError(f"{name} is no task: write async def {name}(context, arguments)")
    if len(parameters) == 1:
        return None
    model = typing.get_type_hints(function).get(parameters[1])
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise TypeError(f"{name} is no task: its {parameters[1]!r} is no pydantic model")
    return model


class Registry:
    """The kinds that one process knows; `declared` adds those of the configuration, which may change."""

    def __init__(
        self, *kinds: TaskKind, declared: Callable[[], dict[str, TaskKind]] = dict[str, TaskKind]
    ) -> None:
        self._fixed = {kind.spec.kind: kind for kind in kinds}
        self._declared = declared

    def kinds(self) -> dict[str, TaskKind]:
        """By name; a declared kind does not take the place of a function."""
        return {**self._declared(), **self._fixed}

    def get(self, kind: str) -> TaskKind:
        """Raises NotFound."""
        kinds = self.kinds()
        if kind not in kinds:
            near = did_you_mean(kind, list(kinds))
            raise NotFound(
                f"there is no kind of task {kind!r}",
                remedy=f"did you mean {near!r}?"
                if near
                else f"there is {', '.join(sorted(kinds)) or 'none'}",
            )
        return kinds[kind]


def installed() -> list[TaskKind]:
    """Kinds that installed packages offer. One that cannot be loaded is told of and left out."""
    return [kind for point in entry_points(group=GROUP) for kind in _loaded(point)]


def _loaded(point: EntryPoint) -> Iterator[TaskKind]:
    try:
        kind = point.load()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - somebody else's module may do anything
        _log.error(
            "a task cannot be loaded", entry_point=point.name, problem=f"{type(error).__name__}: {error}"
        )
        return
    if isinstance(kind, TaskKind):
        yield kind
    else:
        _log.error(
            "an entry point is no task",
            entry_point=point.name,
            remedy="name a function with @task of phoenix_orch.tasks.registry",
        )
