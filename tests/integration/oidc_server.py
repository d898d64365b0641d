"""An OpenID Connect server of others, in a process of its own: what it imports warns, which ends a test."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator

import httpx

PROGRAM = """
import sys
from oidc_provider_mock import User, run_server_in_thread
users = [User(sub="4711", claims={"preferred_username": "ada", "groups": ["releases"]}), User(sub="4712")]
with run_server_in_thread(require_nonce=False, user_claims=users) as server:
    print(server.server_port, flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def providing() -> Iterator[str]:
    """Its issuer."""
    words = [sys.executable, "-W", "ignore", "-c", PROGRAM]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        try:
            yield f"http://localhost:{server.stdout.readline().strip()}"
        finally:
            server.stdin.close()
            server.wait(20)


def let_in(address: str, subject: str) -> str:
    """Somebody agrees on the provider's page; the address that it sends them back to."""
    answer = httpx.post(address, data={"sub": subject}, timeout=20)
    assert answer.is_redirect, answer.text
    return answer.headers["location"]
