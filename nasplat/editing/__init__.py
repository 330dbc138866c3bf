"""Edits of a captured network that stay buildable: shapes follow, unchanged weights stay."""

from nasplat.editing.edits import Edit, edits
from nasplat.editing.network import Network

__all__ = ["Edit", "Network", "edits"]
