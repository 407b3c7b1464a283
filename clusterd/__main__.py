"""`python -m clusterd`, the same as `clusterd`."""

from clusterd.cli.main import main

if __name__ == "__main__":
    main()
