"""What recovery raises besides the errors of the kernel. Pure."""

from __future__ import annotations

from typing import ClassVar

from phoenix_orch.kernel.errors import BadState, Terminal


class Corrupted(Terminal):
    """Bytes are not what was written: flipped, cut off, appended or exchanged."""

    code: ClassVar[str] = "corrupted"


class WrongKey(Terminal):
    """None of the identities at hand opens it. The bytes may be sound."""

    code: ClassVar[str] = "wrong_key"


class Stopped(BadState):
    """A person, or the end of the process, told the run to stop. Nothing of it was committed."""

    code: ClassVar[str] = "stopped"
