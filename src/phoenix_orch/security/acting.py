"""Who acts now: known to whatever is called on somebody's behalf, without being handed through.

Set for each request by the API and for each task by its worker. Absent in control loops: there the component
itself acts.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field

from phoenix_orch.security.rights import Principal


@dataclass(frozen=True, slots=True)
class Caller:
    principal: Principal
    request_id: str
    address: str
    """Where the call came from: an IP address, or `unix`."""
    csrf: str = field(default="", repr=False)
    """What forms of the caller's session carry; empty without one."""

    @property
    def name(self) -> str:
        """The actor of what is changed."""
        return self.principal.name


current: ContextVar[Caller | None] = ContextVar("phoenix_caller", default=None)
