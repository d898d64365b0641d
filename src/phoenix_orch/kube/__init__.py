"""The one place that talks to the Kubernetes API: requests, watched caches, leadership, events."""
