"""`phoenix console`: into the console of this machine, without a token."""

from __future__ import annotations

import webbrowser
from typing import Annotated
from urllib.parse import urlencode

import typer

from phoenix_orch.cli import reaching
from phoenix_orch.cli.options import UNSET, DataDir, Output, OutputOption
from phoenix_orch.cli.output import emit, say
from phoenix_orch.kernel.errors import BadState


def console(
    open_: Annotated[bool, typer.Option("--open", help="Open it in a browser.")] = False,
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
) -> None:
    """Print an address that lets a browser into the console.

    Once, and within a minute.
    """
    with reaching.client(data_dir) as client:
        address = client.health().get("api")
        if not address:
            raise BadState(
                "this Phoenix answers on its unix socket only",
                remedy="start it with --listen 127.0.0.1:7007, or api.listen in phoenix.yaml",
            )
        code = client.create_login_code().code
    url = f"{address}/login/code?{urlencode({'code': code})}"
    if open_ and webbrowser.open(url):
        say("opened in a browser")
        return
    if output is Output.TABLE:
        print(url)  # whole: `say` would mask the code
        return
    emit(output, {"url": url}, "")
