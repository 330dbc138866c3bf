"""Networks become graphs.

ladder.py     any module -> Graph, rung by rung              recorder.py   what a forward pass does, as nodes
calls.py      one operator call and its arguments            normalise.py  framework ops -> vocabulary
bounded.py    outputs whose size depends on data             escapes.py    Python ways out of a tensor
block.py      parts that are constructed once                replay.py     parts that are recorded once
programming.py  calls -> Program                             rebuild.py    Program + weights -> module
onnx_file.py  ONNX files -> Graph (onnx_reader.py, onnx_ops.py)   published.py  published computation graphs -> Graph
"""

from nasplat.capturing.block import block
from nasplat.capturing.ladder import capture_module, collect_rarely
from nasplat.capturing.onnx_file import OnnxFile, capture_onnx
from nasplat.capturing.published import read_published
from nasplat.capturing.rebuild import rebuild

__all__ = ["OnnxFile", "block", "capture_module", "capture_onnx", "collect_rarely", "read_published", "rebuild"]
