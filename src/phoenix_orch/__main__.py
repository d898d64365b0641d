"""`python -m phoenix_orch` is `phoenix`."""

from phoenix_orch.cli.main import main

if __name__ == "__main__":
    main()
