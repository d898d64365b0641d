"""Backups that are verified, restores that are rehearsed: Redis, configuration, volumes."""
