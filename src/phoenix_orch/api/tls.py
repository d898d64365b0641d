"""TLS of a listener, whose files may change while it is served."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from pathlib import Path

import structlog

from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.runtime.files import Stamp, stamp

LOOK = 10.0
"""Seconds between two looks whether the files were changed."""

_log = structlog.get_logger("phoenix.api")


@dataclass(frozen=True, slots=True)
class Tls:
    """Files in PEM."""

    certificate: Path
    """The chain, the server's own first."""
    key: Path
    client_ca: Path | None = None
    """Of the certificates that clients have to have; None: they need none."""

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.certificate, self.key, *((self.client_ca,) if self.client_ca else ()))


class Renewed:
    """The certificate that new connections see.

    A context that is in use is never loaded anew: between certificate and key a handshake would fail. Each
    handshake is given the newest whole context instead.
    """

    def __init__(self, tls: Tls) -> None:
        """Raises Invalid for files that are no certificate with its key."""
        self._tls = tls
        self._known = self._stamps()
        self._newest = context_of(tls)
        self.context = context_of(tls)
        """For the listener."""
        self.context.sni_callback = self._choose

    def _choose(self, connection: ssl.SSLObject, *_: object) -> None:
        connection.context = self._newest

    async def run(self) -> None:
        """Look at the files until cancelled. What does not fit together changes nothing."""
        while True:
            await asyncio.sleep(LOOK)
            now = await asyncio.to_thread(self._stamps)
            if now == self._known:
                continue
            self._known = now
            try:
                self._newest = await asyncio.to_thread(context_of, self._tls)
            except Invalid as error:
                _log.warning("the new certificate of the API cannot be used", reason=error.message)
            else:
                _log.info("the API has a new certificate", certificate=str(self._tls.certificate))

    def _stamps(self) -> list[Stamp | None]:
        return [stamp(file) for file in self._tls.files]


def context_of(tls: Tls) -> ssl.SSLContext:
    """Raises Invalid for files that are no certificate with its key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(tls.certificate, tls.key)
        if tls.client_ca is not None:
            context.load_verify_locations(tls.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        raise Invalid(
            f"{', '.join(map(str, tls.files))}: no certificate with its key: {error.strerror or 'no PEM'}",
            remedy="give a chain, its key, and the authority of clients where there is one, as PEM files",
        ) from None  # what is in the files is nobody's business
    return context
