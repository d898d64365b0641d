"""A typed client of the API: over the unix socket of a data directory, or at an address with a token."""

from phoenix_orch.client.client import Client
from phoenix_orch.client.events import StreamEvent

__all__ = ["Client", "StreamEvent"]
