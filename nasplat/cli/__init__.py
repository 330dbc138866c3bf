"""The command line: parses, calls and prints; what verbs do lies in the rooms below."""

from nasplat.cli.verbs import cli, main

__all__ = ["cli", "main"]
