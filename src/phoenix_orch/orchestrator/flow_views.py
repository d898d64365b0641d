"""What is told of freezes, groups and numbers of delivery."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from phoenix_orch.rollout.freezes import Freeze
from phoenix_orch.rollout.groups import Group, Standing
from phoenix_orch.rollout.spec import Model


class FreezeView(Model):
    """One freeze, and the window that is open now or comes next."""

    freeze: Freeze
    source: Literal["configuration", "person"]
    by: str = ""
    """The person who began it."""
    at: datetime | None = None
    """When that person said so."""
    open: bool
    begin: datetime | None = None
    """Of the window that is open, else of the next one; null: since ever, or there is none to come."""
    until: datetime | None = None
    """Its end; null: until a person ends it."""


class Member(Model):
    """One rollout of a group."""

    rollout: str
    stage: int | None = None
    """From 1; null: it is in no stage."""
    standing: Standing
    waits: str = ""
    """What its release waits for."""


class GroupView(Model):
    """One group, and where its members stand."""

    group: Group
    members: tuple[Member, ...]


class OverrideView(Model):
    """A release that no freeze holds any more."""

    rollout: str
    revision: str
    freeze: str
    """The freeze that held it; empty where none does now."""
    reason: str
