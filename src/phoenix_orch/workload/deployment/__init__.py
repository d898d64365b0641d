"""Deployments of Kubernetes as plain objects: what they run, their canary, size, promotion, history and pods.

Everything here is pure: dictionaries as the API server stores them go in, plans, patches and refusals
come out. `workload.kubernetes` reads and writes.
"""
