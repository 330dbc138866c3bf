"""Networks become graphs.

recorder.py   one forward pass on meta tensors -> Graph      normalise.py  framework ops -> vocabulary
block.py      parts recorded once and reused
"""

from nasplat.capturing.block import block
from nasplat.capturing.recorder import capture_module

__all__ = ["block", "capture_module"]
