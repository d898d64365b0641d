"""Traffic: the object that carries the weight and the latch, and the routers that obey it."""
