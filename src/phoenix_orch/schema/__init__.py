"""The published JSON Schema, the file that `phoenix init` writes, and what generates the reference."""
