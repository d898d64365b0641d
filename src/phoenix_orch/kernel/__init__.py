"""Ground floor: units, ids, errors, clock, configuration files. Imports nothing else of Phoenix."""
