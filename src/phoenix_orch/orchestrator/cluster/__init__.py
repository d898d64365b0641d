"""The adapters by which the controllers work in a Kubernetes cluster. Put together in `kubernetes.py`."""
