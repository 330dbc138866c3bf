"""Edits of a captured network that stay buildable: shapes follow, unchanged weights stay.

network.py     `Network`: calls and weights          channels.py   which channels stand for each other
edit.py        what an edit is                       edits.py      all edits of a network
sizes.py       channels and kernels                  operations.py activations, pools, products of two
shortcuts.py   branches and layers left out          body.py       a network up to its feature maps
edited.py      a member of a space after edits
"""

from nasplat.editing.edit import Edit
from nasplat.editing.edited import Edited, read_edits
from nasplat.editing.edits import edit_from_dict, edit_to_dict, edits
from nasplat.editing.network import Network
from nasplat.editing.operations import Activate, Factor, Pool, Separate
from nasplat.editing.shortcuts import Branch, Skip
from nasplat.editing.sizes import Kernel, Width

__all__ = [
    "Activate",
    "Branch",
    "Edit",
    "Edited",
    "Factor",
    "Kernel",
    "Network",
    "Pool",
    "Separate",
    "Skip",
    "Width",
    "edit_from_dict",
    "edit_to_dict",
    "edits",
    "read_edits",
]
