"""Bodies of what changes something."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, Any, Self

from pydantic import AfterValidator, AwareDatetime, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from phoenix_orch.kernel.arguments import Passable, Variable
from phoenix_orch.kernel.config import Loc
from phoenix_orch.kernel.masking import masks_in, told
from phoenix_orch.kernel.text import halves_in
from phoenix_orch.kernel.units import Duration
from phoenix_orch.orchestrator.config import PhoenixFile, mask_fault, masks_of
from phoenix_orch.orchestrator.limits import LONGEST_REASON
from phoenix_orch.rollout.freezes import Pattern, UnderWay
from phoenix_orch.rollout.spec import MOST, Model, Name
from phoenix_orch.rollout.status import CommandKind
from phoenix_orch.security.rights import EVERYWHERE, Role
from phoenix_orch.tasks.port import RunRequest
from phoenix_orch.tasks.spec import Key, Kind, Target

LONGEST_LIFE = timedelta(days=366)
DEFAULT_LIFE = timedelta(days=90)
"""Of tokens."""
NO_TEXT = "this is no text: there is half of a character in it"
Reason = Annotated[str, Field(max_length=LONGEST_REASON), AfterValidator(told)]
"""Why, in one line that may be shown."""


class _Request(Model):
    """What is sent, and can be understood: JSON may hold halves of characters, which no file and no
    program takes."""

    @model_validator(mode="before")
    @classmethod
    def _is_text(cls, data: Any) -> Any:
        faults = [
            InitErrorDetails(type=PydanticCustomError("no_text", NO_TEXT), loc=loc, input=None)
            for loc in halves_in(data)
        ]
        if faults:
            raise ValidationError.from_exception_data(cls.__name__, faults)
        return data


class CommandRequest(_Request):
    kind: CommandKind
    reason: Reason = ""
    step: int | None = None
    """The step, from 0, that a promotion is meant for; refused when it is at another one."""
    override_freeze: bool = False
    """Of a retry: it waits for no freeze. It takes the right to approve, and a reason."""


class _Unmasked(_Request):
    """Takes no mask for a value."""

    @model_validator(mode="after")
    def _no_masks(self) -> Self:
        faults = [mask_fault(loc) for loc in self._masks()]
        if faults:
            raise ValidationError.from_exception_data(type(self).__name__, faults)
        return self

    def _masks(self) -> Iterator[Loc]:
        raise NotImplementedError


class StartRequest(_Unmasked):
    """What of stable's template is other in the new revision. Left out: as it is."""

    version: str | None = None
    env: dict[Variable, Passable] | None = None
    """Laid over the environment of stable."""
    command: tuple[Passable, ...] | None = None
    change_cause: Reason = ""
    dry_run: bool = False
    even_if_unattainable: bool = False
    """Also when stable itself does not keep the limits that the release would be judged by."""
    override_freeze: bool = False
    """No freeze holds it. It takes the right to approve, and a reason as `changeCause`."""

    def _masks(self) -> Iterator[Loc]:
        return masks_in({"env": self.env, "command": self.command})


class UndoRequest(_Request):
    to_revision: int | None = None
    """Number of the revision; left out: the one before."""
    reason: Reason = ""
    dry_run: bool = False


class FreezeRequest(_Request):
    """A freeze that begins now. Neither `until` nor `duration`: until a person ends it."""

    name: Name | None = None
    """Left out: one is made of the time."""
    until: AwareDatetime | None = None
    duration: Duration | None = None
    rollouts: Annotated[tuple[Pattern, ...], Field(max_length=MOST)] = ()
    """Patterns of their names; left out: all."""
    reason: Reason
    releases_under_way: UnderWay = "continue"
    dry_run: bool = False


class EndFreezeRequest(_Request):
    reason: Reason = ""
    dry_run: bool = False


class OverrideRequest(_Request):
    reason: Reason
    """Has to be there."""
    dry_run: bool = False


class ApplyRequest(_Unmasked):
    config: PhoenixFile
    dry_run: bool = False
    even_if_unattainable: bool = False
    """Also release where stable itself does not keep the limits."""

    def _masks(self) -> Iterator[Loc]:
        return (("config", *loc) for loc in masks_of(self.config))


class TaskRequest(_Request):
    """A task that somebody wants."""

    kind: Kind
    arguments: dict[str, Any] = Field(default_factory=dict)
    target: Target = ""
    key: Key | None = None
    """Of all tasks with one key at most one is active; left out: as the kind says."""
    after: AwareDatetime | None = None
    """Not before this moment; left out: at once."""
    reason: Reason = ""
    dry_run: bool = False

    def run_request(self) -> RunRequest:
        return RunRequest.model_validate(self.model_dump(exclude={"dry_run"}))


class TokenRequest(_Request):
    name: Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._@ -]*$")]
    """What it is for: the actor of what is done with it."""
    role: Role
    namespaces: Annotated[tuple[str, ...], Field(min_length=1, max_length=100)] = (EVERYWHERE,)
    """Where it has the role."""
    lasting: Duration | None = DEFAULT_LIFE
    """How long it lets in; null: until it is revoked."""
    dry_run: bool = False


class RevokeRequest(_Request):
    reason: Reason = ""
    dry_run: bool = False


class ApprovalRequest(_Request):
    action: Annotated[str, Field(max_length=60, pattern=r"^(backup|keys|restore)\.[a-z]+$")]
    """`noun.verb`, as in the audit log."""
    target: Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(told)]
    """Kind and name, and the hash of the plan: it is agreed to exactly this."""
    reason: Reason = ""
    dry_run: bool = False


class AnswerRequest(_Request):
    reason: Reason = ""
    """Why it is approved or refused."""
    dry_run: bool = False


class LoginRequest(_Request):
    token: Annotated[str, Field(min_length=1, max_length=200)]
    """An API token of Phoenix."""
