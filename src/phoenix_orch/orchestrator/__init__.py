"""The master-orchestrator: the loops put together, and what people and programs ask of them."""
