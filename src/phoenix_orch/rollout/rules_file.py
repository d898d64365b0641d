"""Freezes and groups of a cluster, as the ConfigMap has them: the same words as in phoenix.yaml. Pure."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from phoenix_orch.rollout.freezes import Freeze
from phoenix_orch.rollout.groups import Group, circle
from phoenix_orch.rollout.spec import Model, distinct

MOST_RULES = 100
"""Freezes, or groups, at most."""


class RulesFile(Model):
    """What stands under `rules.yaml`."""

    freezes: Annotated[tuple[Freeze, ...], Field(max_length=MOST_RULES)] = ()
    groups: Annotated[tuple[Group, ...], Field(max_length=MOST_RULES)] = ()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        distinct((freeze.name for freeze in self.freezes), "freezes")
        distinct((group.name for group in self.groups), "groups")
        if around := circle(self.groups):
            raise ValueError(f"these would wait for each other for ever: {', '.join(around)}")
        return self
