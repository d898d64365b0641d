"""Phoenix Orchestrator: ship a release a little at a time, prove it healthy, take it back when it is not."""
