"""The one door through which values leave: whatever a route gives is masked here."""

from __future__ import annotations

from typing import Any

from fastapi.responses import JSONResponse

from phoenix_orch.kernel.masking import Masker


def masked_by(masker: Masker) -> type[JSONResponse]:
    """A response for all routes that masks its content, whatever model it came from."""

    class MaskedResponse(JSONResponse):
        def render(self, content: Any) -> bytes:
            return super().render(masker.data(content))

    return MaskedResponse
