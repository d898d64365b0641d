"""The command line: one module per noun, and no decision in any of them."""
