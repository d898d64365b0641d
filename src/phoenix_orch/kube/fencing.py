"""What a write is answered with once its leader may lead no more. Pure."""

from __future__ import annotations

from phoenix_orch.kernel.errors import BadState


class NotLeading(BadState):
    """Another process may lead by now; nothing was written."""

    code = "not_leading"
