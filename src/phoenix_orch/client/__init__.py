"""A typed client of the API over the unix socket of a data directory."""

from phoenix_orch.client.client import Client

__all__ = ["Client"]
