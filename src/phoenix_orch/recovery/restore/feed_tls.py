"""TLS towards a replica that speaks it: a target with `tls-replication yes` connects to us in no other way.

It looks whether our certificate is of an authority in its `tls-ca-cert-file`, of these days, and meant for
servers. It does not compare names: any certificate of that authority will do, its own too.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

from phoenix_orch.kernel.errors import Invalid, Terminal

_HELLO = b"\x16"
"""The first byte of a handshake of TLS; no command of a replica begins with it."""
_ROUNDS = 8
"""More than a handshake takes."""
_DISTRUST = (
    "UNKNOWN_CA",
    "BAD_CERTIFICATE",
    "UNSUPPORTED_CERTIFICATE",
    "CERTIFICATE_EXPIRED",
    "CERTIFICATE_REVOKED",
    "CERTIFICATE_UNKNOWN",
)
"""Ends of alerts by which the other side says what it has against our certificate."""
GIVE = (
    "plan anew with --listen-cert FILE --listen-key FILE: a certificate of an authority in its "
    "tls-ca-cert-file, its own will do"
)
"""What to do about it."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """What we show, in PEM: the certificate with what is between it and its authority, and its key."""

    file: Path
    key: Path | None = None
    """None: in the same file."""

    def context(self) -> ssl.SSLContext:
        """Raises Invalid where the files are none."""
        found = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            found.load_cert_chain(self.file, self.key, password=lambda: "")
        except (OSError, ValueError) as error:
            reason = str(getattr(error, "strerror", None) or "no certificate in PEM with its key").lower()
            named = f"{self.file}" + (f" with the key {self.key}" if self.key is not None else "")
            raise Invalid(
                f"--listen-cert {named} cannot be used: {reason}",
                remedy="name a certificate and its key, in PEM, the key without a passphrase",
            ) from None
        return found

    def distrust(self, authority: Path) -> str:
        """Why who trusts `authority` would not trust it; empty where they do. Nothing is sent anywhere.

        Raises Invalid.
        """
        there = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        there.check_hostname = False
        try:
            there.load_verify_locations(authority)
        except (OSError, ValueError) as error:
            reason = str(getattr(error, "strerror", None) or error).lower()
            raise Invalid(
                f"--tls-ca {authority} cannot be used: {reason}",
                remedy="name a file with the certificate of the authority, in PEM",
            ) from None
        to_us, to_them = ssl.MemoryBIO(), ssl.MemoryBIO()
        sides = there.wrap_bio(to_them, to_us), self.context().wrap_bio(to_us, to_them, server_side=True)
        for _ in range(_ROUNDS):
            for side in sides:
                try:
                    side.do_handshake()
                except ssl.SSLWantReadError:
                    continue
                except ssl.SSLCertVerificationError as error:
                    return error.verify_message
        return ""


def spoken(
    connection: socket.socket, certificate: Certificate | None, secured: bool | None, within: float
) -> socket.socket:
    """The connection as its other side speaks on it: over TLS, or in clear.

    `secured`: whether who is awaited speaks TLS; None: not known. `within`: seconds. Raises Terminal where it
    is who is awaited, and goes away for want of a certificate that it trusts; OSError or ValueError for
    somebody else.
    """
    connection.settimeout(within)
    hello = connection.recv(1, socket.MSG_PEEK) == _HELLO
    if secured is not None and hello != secured:
        raise ValueError("over TLS" if hello else "in clear")
    if not hello:
        return connection
    if certificate is None:
        raise Terminal(
            "the target takes data over TLS alone, and there is no certificate to show it", remedy=GIVE
        )
    try:
        return certificate.context().wrap_socket(connection, server_side=True)
    except ssl.SSLError as error:
        with contextlib.suppress(StopIteration):
            why = next(one for one in _DISTRUST if str(error.reason).endswith(f"ALERT_{one}"))
            said = why.lower().replace("_", " ").replace("unknown ca", "unknown authority")
            raise Terminal(f"the target does not trust {certificate.file}: {said}", remedy=GIVE) from None
        raise
