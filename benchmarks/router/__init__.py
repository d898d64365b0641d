"""Compares the routers that could carry embedded mode, on the work Phoenix gives them."""
