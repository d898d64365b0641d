"""A form is obeyed when a page of ours held it: its token is of this process and of one principal."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from urllib.parse import urlsplit

from fastapi import Request

from phoenix_orch.kernel.errors import Forbidden
from phoenix_orch.security.acting import Caller

FIELD = "csrf"
_REMEDY = "load the page again and send the form from there"


class Csrf:
    """Makes and checks tokens. They are void when the process ends."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def token(self, caller: Caller) -> str:
        """Of the session; without one bound to the principal, so that nobody can use that of another."""
        return caller.csrf or hmac.new(self._key, caller.principal.key.encode(), hashlib.sha256).hexdigest()

    def check(self, caller: Caller, request: Request, given: str) -> None:
        """Raises Forbidden for a form that is not from a page of ours."""
        origin = request.headers.get("origin", "")
        if origin and urlsplit(origin).netloc != request.headers.get("host", ""):
            raise Forbidden("the form was sent by a page from elsewhere", remedy=_REMEDY)
        if not hmac.compare_digest(given.encode(), self.token(caller).encode()):
            raise Forbidden("the form is too old, or no page of this console held it", remedy=_REMEDY)
