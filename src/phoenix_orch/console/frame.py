"""What every page of the console has: who looks, what they may do, what was just asked for."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query
from fastapi.responses import HTMLResponse

from phoenix_orch.console import render
from phoenix_orch.console.csrf import Csrf
from phoenix_orch.security.acting import Caller
from phoenix_orch.security.rights import EMBEDDED, Right, allows

ROOT = "/console"
Done = Annotated[str, Query(max_length=20)]
DONE = {
    "pause": "Asked to pause.",
    "resume": "Asked to resume.",
    "promote": "Asked to skip this step.",
    "promote-full": "Asked to promote fully.",
    "end-bake": "Asked to end the bake.",
    "abort": "Asked to abort: everybody goes back to the old version.",
    "retry": "Asked to try again.",
    "undo": "Asked to go back.",
    "start": "The release is asked for.",
    "cancel": "Asked to cancel.",
    "again": "It is begun anew.",
    "run": "It runs besides its schedule.",
    "hold": "The schedule is paused.",
    "go-on": "The schedule goes on.",
    "restart": "The instances are replaced one after another.",
}
"""What a page says after a form was sent; by a word, so that no text of anybody's is in an address."""


class Pages:
    """Makes pages for whoever asks."""

    def __init__(self, csrf: Csrf) -> None:
        self._csrf = csrf

    def __call__(self, who: Caller, template: str, *, done: str = "", **values: Any) -> HTMLResponse:
        return render.page(
            template,
            who=who,
            csrf=self._csrf.token(who),
            may_operate=allows(who.principal, Right.OPERATE, EMBEDDED),
            done=DONE.get(done, ""),
            **values,
        )
