"""The HTTP API: routes, problem documents, the unix socket. No decision is made here."""
