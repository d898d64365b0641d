"""Where rollouts are kept: the port and its implementations."""
