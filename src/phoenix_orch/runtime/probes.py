"""`/livez` and `/readyz` for whoever watches a process from outside, as kubelet does."""

from __future__ import annotations

from collections.abc import Callable

from phoenix_orch.runtime.pages import Answered, Asked, Page, serve_pages

NotReady = Callable[[], str]
"""Why the process cannot do its work yet; empty: it can."""


async def serve_probes(
    host: str,
    port: int,
    not_ready: NotReady,
    listening: Callable[[int], None],
    answered: Answered | None = None,
) -> None:
    """Answer until cancelled. `listening` is called with the port, which 0 leaves to the system.

    Raises OSError where the address is taken.
    """

    async def answer(asked: Asked) -> Page:
        return _page(asked.path, not_ready)

    await serve_pages(host, port, answer, listening, answered)


def _page(path: str, not_ready: NotReady) -> Page:
    if path == "/livez":
        return Page(200, b"ok\n", route=path)
    if path == "/readyz":
        why = not_ready()
        return Page(503 if why else 200, f"{why or 'ok'}\n".encode(), route=path)
    return Page(404, b"there are /livez and /readyz\n")
