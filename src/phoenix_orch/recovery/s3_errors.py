"""What an S3 client says, as errors that say what to do. Pure.

Of the client's text only the storage's error code and signs of its kind are used: the rest may repeat
headers and addresses.
"""

from __future__ import annotations

import re

from phoenix_orch.kernel.errors import PhoenixError, Retryable, Terminal

_CODE = re.compile(r"<Code>([A-Za-z0-9]{1,60})</Code>")
_STATUS = re.compile(r"(?:status code|status|code): ?\"?([1-5][0-9]{2})")
_BY_CODE = {
    "NoSuchBucket": ("does not exist", "make it, or mend backup.storage.s3.bucket and .endpoint"),
    "AccessDenied": (
        "refuses access",
        "allow the key s3:ListBucket, GetObject, PutObject, AbortMultipartUpload; to prune, DeleteObject",
    ),
    "InvalidAccessKeyId": ("does not know the access key", "look at backup.storage.s3.credentials"),
    "SignatureDoesNotMatch": (
        "says the secret key is wrong",
        "look at backup.storage.s3.credentials: the secret key does not belong to the access key",
    ),
    "ExpiredToken": (
        "says the session token has expired",
        "get new credentials and put them where backup.storage.s3.credentials says; a role renews its own",
    ),
    "InvalidToken": (
        "does not know the session token",
        "look at backup.storage.s3.credentials: token and keys are of one login",
    ),
    "RequestTimeTooSkewed": (
        "says this machine's clock is wrong",
        "set the clock, and keep it right: timedatectl set-ntp true",
    ),
    "PermanentRedirect": ("is in another region", "mend backup.storage.s3.region"),
    "AuthorizationHeaderMalformed": ("is in another region", "mend backup.storage.s3.region"),
    "IllegalLocationConstraintException": ("is in another region", "mend backup.storage.s3.region"),
    "EntityTooLarge": ("takes no object of this size", "raise the limit of the storage"),
}
_OF_A_KEY = ("AccessDenied", "EntityTooLarge")
"""What may be so for one object and not for another."""
_BY_STATUS = {"401": "InvalidAccessKeyId", "403": "AccessDenied", "301": "PermanentRedirect"}
_REDIRECTED = "redirect without location"
"""How the client tells of 301, of which it shows neither status nor code."""
_SLOWER = ("SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequests")
_TLS = ("certificate", "unknownissuer", "tls handshake", "invalid peer", "ssl:")
_REFUSED = (
    "connection refused",
    "dns error",
    "failed to lookup",
    "error trying to connect",
    "name or service",
)


def told(text: str, where: str, key: str, *, code: str = "") -> PhoenixError:
    """`text`: of the client; `where`: as `S3Location.called`; `code`: of the storage, where it is known."""
    code = code or next(iter(_CODE.findall(text)), "")
    status = next(iter(_STATUS.findall(text)), "")
    lower = text.lower()
    if not code:
        code = _BY_STATUS.get(status, "PermanentRedirect" if _REDIRECTED in lower else "")
    known = _BY_CODE.get(code)
    of = f" for {key}" if key else ""
    if known is not None:
        return Terminal(f"{where} {known[0]}{of if code in _OF_A_KEY else ''}", remedy=known[1])
    if code in _SLOWER or status == "429":
        return Retryable(
            f"{where} gets too many requests, and asks for fewer",
            remedy="it was asked more and more slowly for a minute; the next run tries again. Where it "
            "happens often, give Phoenix a prefix or a bucket of its own, or raise the storage's limit",
        )
    if status == "400" and not code:
        return Terminal(
            f"{where} refuses the request{of}, and does not say why",
            remedy="look at backup.storage.s3.region, at the session token, and at the storage's own log",
        )
    if "kms" in lower and "not configured" in lower:
        return Terminal(f"{where} has no keys to encrypt with", remedy="leave out backup.storage.s3.sse")
    if any(sign in lower for sign in _TLS):
        return Terminal(
            f"the certificate of {where} is not trusted",
            remedy="name the file of its authority as backup.storage.s3.caFile",
        )
    if any(sign in lower for sign in _REFUSED):
        return Retryable(
            f"{where} does not answer", remedy="see that it runs, and that this machine reaches it"
        )
    reason = code or (f"HTTP status {status}" if status else "the connection failed")
    return Retryable(f"{where} failed{of}: {reason}", remedy="it may be away for now; look at its own log")
