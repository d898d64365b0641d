"""Keys and certificates of one control plane: an authority of its own, its server, its users."""

from __future__ import annotations

import base64
import datetime as dt
import ipaddress
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_VALID = dt.timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Pair:
    """A private key and its certificate, PEM."""

    key: bytes
    certificate: bytes


class Authority:
    """Signs for one control plane. Its key and certificate are `ca.key` and `ca.crt` in the folder."""

    def __init__(self, folder: Path) -> None:
        """Take what is in the folder, or make it. A reopened plane goes on with the same authority."""
        self.key_file, self.certificate_file = folder / "ca.key", folder / "ca.crt"
        if not self.certificate_file.exists():
            key = ec.generate_private_key(ec.SECP256R1())
            name = _name("phoenix-test-cluster")
            certificate = _certificate(name, key, name, key, server=(), authority=True)
            write_private(self.key_file, key_pem(key))
            write_private(self.certificate_file, certificate.public_bytes(serialization.Encoding.PEM))
        key_read = serialization.load_pem_private_key(self.key_file.read_bytes(), None)
        assert isinstance(key_read, ec.EllipticCurvePrivateKey)
        self._key = key_read
        self._name = x509.load_pem_x509_certificate(self.certificate_file.read_bytes()).subject

    def user(self, name: str, groups: Sequence[str] = ()) -> Pair:
        """For a client: the API server reads the user from the common name, groups from organisations."""
        return self._sign(_name(name, groups), ())

    def server(self, *names: str) -> Pair:
        """For a server that is called by these host names or addresses."""
        return self._sign(_name(names[0]), names)

    def _sign(self, subject: x509.Name, server: Sequence[str]) -> Pair:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _certificate(subject, key, self._name, self._key, server=server)
        return Pair(key_pem(key), certificate.public_bytes(serialization.Encoding.PEM))


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """In the form `EC PRIVATE KEY`: Kubernetes reads no public key out of the newer one."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )


def write_private(path: Path, content: bytes) -> Path:
    """Write a file that nobody else could ever read, and return its path."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    return path


def write_kubeconfig(path: Path, server: str, authority: str, user: dict[str, str]) -> Path:
    """A kubeconfig with everything in it, mode 0600; `authority` is in base64, `user` the `user` entry."""
    content: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "test", "cluster": {"server": server, "certificate-authority-data": authority}}
        ],
        "users": [{"name": "user", "user": user}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "user"}}],
        "current-context": "test",
    }
    return write_private(path, json.dumps(content, indent=1).encode())  # JSON is YAML


def certificate_user(pair: Pair) -> dict[str, str]:
    """The `user` entry of a kubeconfig."""
    return {"client-certificate-data": text(pair.certificate), "client-key-data": text(pair.key)}


def text(data: bytes) -> str:
    """Base64, as kubeconfig files hold it."""
    return base64.b64encode(data).decode()


def _name(common: str, organisations: Sequence[str] = ()) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, value) for value in organisations]
        + [x509.NameAttribute(NameOID.COMMON_NAME, common)]
    )


def _certificate(
    subject: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    server: Sequence[str],
    authority: bool = False,
) -> x509.Certificate:
    """With the extensions that strict checking, the default from Python 3.13 on, wants to see."""
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))  # clocks differ
        .not_valid_after(now + _VALID)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(_key_usage(authority=authority), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
        )
    )
    if server:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([_host(name) for name in server]), critical=False
        )
    if not authority:
        purpose = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _host(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
