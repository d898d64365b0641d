"""Templates into answers: everything escaped, times as `<time>`, and the headers of every page."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from phoenix_orch.console import assets
from phoenix_orch.health_validator import explain
from phoenix_orch.health_validator.observation import Bound
from phoenix_orch.kernel.text import plain
from phoenix_orch.orchestrator import wording

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


@lru_cache(maxsize=1)
def environment() -> Environment:
    """The templates with the words that they use."""
    made = Environment(
        loader=PackageLoader("phoenix_orch.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        finalize=_shown,
    )
    made.filters |= {
        "when": when,
        "duration": wording.format_rounded,
        "percent": explain.percent,
        "odds": explain.odds,
        "shown": _measured,
        "rate": explain.rate,
        "thousands": explain.number,
        "gist": wording.gist,
        "ago": ago,
    }
    made.globals |= {"asset": assets.address, "words": wording, "explain": explain}
    return made


def text(template: str, **values: Any) -> str:
    """A page, or a part of one."""
    return environment().get_template(template).render(**values)


def page(template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """An answer with the headers that every page has."""
    return HTMLResponse(text(template, **values), status, HEADERS)


def when(moment: datetime | None) -> Markup:
    """A moment in UTC; the script of the page shows it in the viewer's zone."""
    if moment is None:
        return Markup('<span class="quiet">-</span>')
    told = moment.strftime("%Y-%m-%d %H:%M:%S")
    return Markup('<time datetime="{}" title="{} UTC">{} UTC</time>').format(
        wording.moment(moment), told, told
    )


def ago(moment: datetime | None, now: datetime) -> str:
    """`5m ago`, by the clock of the rollouts."""
    if moment is None:
        return ""
    return f"{wording.format_rounded(max(timedelta(0), now - moment))} ago"


def _measured(value: float | None, metric: str, bound: Bound | None = None) -> str:
    return explain.shown(metric, value, bound)


def _shown(value: Any) -> Any:
    """Words of programs without what a terminal or a browser would obey; Markup is our own."""
    if value is None:
        return ""
    return value if isinstance(value, Markup) or not isinstance(value, str) else plain(value)
