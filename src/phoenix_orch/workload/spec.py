"""What one service is: the program, how many of it, how its health is told."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Annotated

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)
from pydantic_core import PydanticCustomError

from phoenix_orch.kernel import placeholders
from phoenix_orch.kernel.arguments import Passable, Variable, check_name, check_text
from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.kernel.ids import revision_hash
from phoenix_orch.kernel.units import Duration, Size
from phoenix_orch.rollout.spec import Model

PLACEHOLDERS = ("port", "version")
"""What an instance knows to put into its command and environment."""


def _split_command(value: object) -> object:
    """Split a command written as one string as a POSIX shell would; no shell is ever run."""
    if isinstance(value, str):
        return tuple(shlex.split(value))
    return tuple(value) if isinstance(value, list) else value


def _known_placeholders(text: str) -> str:
    return placeholders.check(text, PLACEHOLDERS)


def _known_in_secret(text: str) -> str:
    return placeholders.check(text, PLACEHOLDERS, secret=True)


_AS_WRITTEN = (
    BeforeValidator(_split_command),
    Field(min_length=1),
    WithJsonSchema(
        {
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}],
            "examples": ["python3 app.py --port {port}"],
        }
    ),
)
Command = Annotated[tuple[str, ...], *_AS_WRITTEN]
Filled = Annotated[Passable, AfterValidator(_known_placeholders)]
"""A word whose placeholders all have a meaning."""
Value = Annotated[Passable, AfterValidator(_known_in_secret)]
"""The same for a value of a variable, of which nothing is repeated in errors."""


def has_port(words: Sequence[str]) -> bool:
    """Some word of a command, or value of a variable, is given the port to listen on."""
    return any("port" in placeholders.words(word) for word in words)


def refuse_unfit(env: Mapping[str, str], command: Sequence[str]) -> None:
    """Raises Invalid when no program can be given them, or a placeholder in them means nothing; repeats
    no value."""
    named = ((f"env {name}", value) for name, value in env.items())
    numbered = ((f"command[{index}]", word) for index, word in enumerate(command))
    try:
        for name in env:
            check_name(name)
    except ValueError as error:
        raise _unfit("env", error) from None
    for where, text in [*named, *numbered]:
        try:
            check_text(text)
            placeholders.check(text, PLACEHOLDERS, secret=where.startswith("env "))
        except PydanticCustomError as error:
            allowed = ", ".join((error.context or {})["allowed"])
            raise Invalid(f"{where}: {error.message()}", remedy=f"write {allowed}") from None
        except ValueError as error:
            raise _unfit(where, error) from None


def _unfit(where: str, error: ValueError) -> Invalid:
    message, _, remedy = str(error).partition("; ")
    return Invalid(f"{where}: {message}", remedy=remedy)


class Health(Model):
    """An instance is ready while GET on this path answers 2xx."""

    path: Annotated[str, Field(pattern=r"^/")] = "/healthz"
    """Path that is asked."""
    interval: Duration = timedelta(seconds=1)
    """Time between two looks."""
    timeout: Duration = timedelta(seconds=1)
    """An answer that takes longer is a failure."""
    failures: Annotated[int, Field(ge=1, le=100)] = 3
    """Consecutive failures that make a ready instance not ready."""


class Template(Model):
    """Everything that makes one revision differ from another: the pod template of a process."""

    version: Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")] = (
        "1"
    )
    """A label for people. Changing it makes another revision."""
    env: dict[str, str] = Field(default_factory=dict)
    """Added to the environment of every instance; `{port}` and `{version}` are put in."""
    command: Command
    """`{port}` becomes the port to listen on, `{version}` the version."""
    cwd: str = "."
    """Working directory; relative to the file that names the service."""
    health: Health = Health()
    """How readiness is told."""
    metrics: Annotated[str, Field(pattern=r"^/")] | None = None
    """Path of Prometheus metrics, if the program has them."""
    memory_limit: Size | None = None
    """Resident bytes above which an instance counts as out of memory and is replaced."""

    @field_validator("command")
    @classmethod
    def _has_port(cls, command: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        env = info.data.get("env")  # none where it has faults of its own, which are told first
        if env is not None and not has_port([*command, *env.values()]):
            raise ValueError(
                "command and env have no '{port}'; Phoenix picks the port each instance listens on: write "
                '{port} for it, as `--port {port}` in command or `PORT: "{port}"` in env'
            )
        return command

    @property
    def revision(self) -> str:
        """The hash of what runs."""
        return revision_hash(self.model_dump(mode="json", by_alias=True))


class ServiceSpec(Template):
    """A service of phoenix.yaml: a template, how many instances, how they leave.

    What a person writes has to make sense; a template that is kept already is taken as it is.
    """

    command: Annotated[tuple[Filled, ...], *_AS_WRITTEN]
    env: dict[Variable, Value] = Field(default_factory=dict)
    cwd: Passable = "."
    replicas: Annotated[int, Field(ge=1, le=100)] = 2
    """Instances of the stable version; the canary has as many as its share needs."""
    drain: Duration = timedelta(seconds=10)
    """Time between leaving the router and SIGKILL: SIGTERM is sent first, requests in flight end."""

    def template(self) -> Template:
        return Template.model_validate({name: getattr(self, name) for name in Template.model_fields})
