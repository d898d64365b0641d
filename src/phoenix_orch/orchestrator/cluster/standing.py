"""Which process stands for election: ADR 0036. Pure."""

from __future__ import annotations


def kept_from_leading(app: str | None, lease: str) -> str:
    """Why a pod with this label `app` does not stand for this Lease; empty: it does.

    A Lease is named like its Deployment, and that one's pods have its name as their label. A canary has
    another, so that a version which nobody has proven steers no release. `app` is None or empty outside of
    a pod, and in pods that are not told their label.
    """
    if not app or app == lease:
        return ""
    return f"the label app of this pod is {app}; only pods of {lease} lead"
