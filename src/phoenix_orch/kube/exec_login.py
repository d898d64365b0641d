"""Log in by a program that the kubeconfig names (`users[].user.exec`), as clouds' clusters do.

lightkube's own knows neither version v1 of the protocol, nor when a token ends, nor a limit of time, and
many requests at once would start the program many times.
Protocol: https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime, timedelta

import httpx2
from lightkube.config.models import UserExec

from phoenix_orch.kube.errors import Unauthenticated

_PATIENCE = 30.0
_EARLY = timedelta(seconds=30)
_VERSIONS = {f"client.authentication.k8s.io/{version}" for version in ("v1", "v1beta1", "v1alpha1")}


class ExecLogin(httpx2.Auth):
    """Asks the program for a token, keeps it until shortly before it ends or is refused."""

    def __init__(
        self, how: UserExec, cluster: dict[str, object], now: Callable[[], datetime] | None = None
    ) -> None:
        """`cluster`: what the program may want to know of the cluster, as the protocol has it."""
        self._how = how
        self._cluster = cluster
        self._now = now or (lambda: datetime.now(UTC))
        self._token: str | None = None
        self._ends: datetime | None = None
        self._one_at_a_time = asyncio.Lock()

    async def async_auth_flow(
        self, request: httpx2.Request
    ) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        """Sends with the token; once more with a new one when it is refused."""
        token = await self._fresh(None)
        request.headers["Authorization"] = f"Bearer {token}"
        response = yield request
        if response.status_code == 401:
            request.headers["Authorization"] = f"Bearer {await self._fresh(token)}"
            yield request

    async def _fresh(self, refused: str | None) -> str:
        async with self._one_at_a_time:
            ended = self._ends is not None and self._now() >= self._ends - _EARLY
            if self._token is None or self._token == refused or ended:
                self._token, self._ends = await self._ask()
            return self._token

    async def _ask(self) -> tuple[str, datetime | None]:
        how = self._how
        if how.apiVersion not in _VERSIONS:
            raise self._failed(f"speaks {how.apiVersion}, which Phoenix does not know")
        info = {"apiVersion": how.apiVersion, "kind": "ExecCredential"}
        spec = {"interactive": False, "cluster": self._cluster}
        environment = {**os.environ, "KUBERNETES_EXEC_INFO": json.dumps({**info, "spec": spec})}
        environment |= {variable.name: variable.value for variable in how.env or ()}
        try:
            async with asyncio.timeout(_PATIENCE):
                output = await _run([how.command, *(how.args or ())], environment)
            status = json.loads(output)["status"]
            token = str(status["token"])
            ends = status.get("expirationTimestamp")
            return token, datetime.fromisoformat(ends) if ends else None
        except TimeoutError:
            raise self._failed(f"gave no answer in {_PATIENCE:.0f} s") from None
        except OSError as error:
            raise self._failed(f"cannot be started: {error.strerror}", how.installHint or "") from None
        except ChildProcessFailed as error:
            raise self._failed(str(error)) from None
        except (ValueError, KeyError, TypeError):
            raise self._failed("printed no token") from None  # what it printed may be a secret

    def _failed(self, what: str, hint: str = "") -> Unauthenticated:
        return Unauthenticated(
            f"the login program {self._how.command} {what}",
            remedy=" ".join(hint.split()) or "run it by hand as the kubeconfig says, or log in again with it",
        )


class ChildProcessFailed(Exception):
    """The program ended with an error."""


async def _run(command: list[str], environment: dict[str, str]) -> bytes:
    process = await asyncio.create_subprocess_exec(
        *command,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        output, _ = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    if process.returncode:
        raise ChildProcessFailed(f"ended with status {process.returncode}")
    return output
