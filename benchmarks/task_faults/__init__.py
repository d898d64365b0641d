"""Workers of Phoenix's tasks are killed while they work: what became of each task and of each slot."""
