"""Networks become graphs, and graphs become networks again.

torch_capture.py   any module -> Graph, rung by rung   recorder.py        what a forward pass does, as nodes
calls.py           one operator call and its arguments torch_ops.py       framework operators -> vocabulary
bounded.py         outputs whose size depends on data  python_exits.py    Python ways out of a tensor
block.py           parts that are constructed once     pasting.py         parts that are recorded once
program_writer.py  calls -> Program                    rebuild.py         Program + weights -> module
onnx_file.py       ONNX files -> Graph                 onnx_reader.py, onnx_ops.py   its parts
published_files.py published computation graphs -> Graph   digest.py      hashes of what was captured
"""

from nasplat.frontends.block import block
from nasplat.frontends.onnx_file import OnnxFile, capture_onnx
from nasplat.frontends.published_files import read_published
from nasplat.frontends.rebuild import rebuild
from nasplat.frontends.torch_capture import capture_module, collect_rarely

__all__ = ["OnnxFile", "block", "capture_module", "capture_onnx", "collect_rarely", "read_published", "rebuild"]
