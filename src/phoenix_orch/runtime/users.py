"""Names of people, by the user id that the kernel tells: nobody can pretend."""

from __future__ import annotations

import pwd


def name_of(uid: int) -> str:
    """The user's name, or `uid <n>` for one without a name."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
