"""What can be backed up, one module for each kind."""
