"""Workloads: what is released, one revision beside another."""
