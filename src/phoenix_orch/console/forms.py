"""What a form sent, as text by name; bounded, and read without a library for files that nobody sends."""

from __future__ import annotations

from urllib.parse import parse_qsl

from fastapi import Request

from phoenix_orch.kernel.errors import Invalid

FIELDS = 50


async def fields(request: Request) -> dict[str, str]:
    """The fields of a form; empty ones are left out. Raises Invalid."""
    if (
        request.headers.get("content-type", "").partition(";")[0].strip()
        != "application/x-www-form-urlencoded"
    ):
        raise Invalid("that is no form", remedy="send it from a page of the console")
    try:
        pairs = parse_qsl((await request.body()).decode(), max_num_fields=FIELDS, errors="strict")
    except ValueError as error:
        raise Invalid(f"that is no form: {error}", remedy="send it from a page of the console") from None
    return {name: value.strip() for name, value in pairs if value.strip()}
