"""Networks become graphs.

recorder.py   one forward pass on meta tensors -> Graph      normalise.py  framework ops -> vocabulary
block.py      parts recorded once and reused               onnx_file.py  ONNX files -> Graph
"""

from nasplat.capturing.block import block
from nasplat.capturing.onnx_file import OnnxFile, capture_onnx
from nasplat.capturing.recorder import capture_module

__all__ = ["OnnxFile", "block", "capture_module", "capture_onnx"]
