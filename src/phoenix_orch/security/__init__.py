"""Who may do what, and what was done by whom."""
