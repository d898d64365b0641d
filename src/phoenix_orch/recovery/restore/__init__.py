"""What is put back, one pair of modules for each kind: a plan, and what carries it out."""
