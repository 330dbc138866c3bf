"""`python -m nasplat` is the command line."""

from nasplat.cli import main

if __name__ == "__main__":
    main()
