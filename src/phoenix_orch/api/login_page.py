"""The page that asks who one is, before there is a console to see: no script and nothing from elsewhere."""

from __future__ import annotations

import html

from fastapi import Request
from fastapi.responses import HTMLResponse

POLICY = "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"

LABEL = "API token"
HINT = "On this machine <code>phoenix console --open</code> logs in without one."


def page(
    request: Request,
    *,
    after: str,
    oidc: bool,
    fault: str = "",
    status: int = 200,
    label: str = LABEL,
    hint: str = HINT,
) -> HTMLResponse:
    """`after`: the path that is shown then. `oidc`: an identity provider can be asked. `fault`: what was
    wrong about the last try. `label`, `hint`: what is asked for, and where it comes from,
    as HTML. It looks like the console where there is one."""
    sheet = getattr(request.app.state, "stylesheet", "")
    style = f'<link rel="stylesheet" href="{html.escape(sheet)}">\n' if sheet else ""
    provider = (
        f'<p><a href="/login/oidc?next={html.escape(after)}">Log in with your identity provider</a></p>'
        if oidc
        else ""
    )
    wrong = f'<p class="note bad" role="alert">{html.escape(fault)}</p>' if fault else ""
    return HTMLResponse(
        f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Log in · Phoenix</title>
{style}</head>
<body>
<main id="main">
<section class="card">
<h1>Phoenix</h1>
{wrong}{provider}
<form method="post" action="/login">
<input type="hidden" name="next" value="{html.escape(after)}">
<p><label for="token">{label}</label></p>
<p><input id="token" name="token" type="password" autocomplete="off" required autofocus></p>
<p><button>Log in</button></p>
</form>
<p class="quiet">{hint}</p>
</section>
</main>
</body>
</html>
""",
        status_code=status,
        headers={"content-security-policy": POLICY},
    )
