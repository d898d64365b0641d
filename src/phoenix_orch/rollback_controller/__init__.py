"""The guide's rollback controller: takes traffic away, and depends on nothing else to do it."""
