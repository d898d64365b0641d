"""Durable tasks: work that is kept in Redis, run by workers, retried, and told of while it runs."""
