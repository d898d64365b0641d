"""`python -m phoenix_orch` is `phoenix`."""

from phoenix_orch.cli.entry import phoenix

if __name__ == "__main__":
    phoenix()
