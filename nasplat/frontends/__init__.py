"""Networks become graphs, and graphs become networks again.

Torch modules   torch_capture.py   any module -> Graph, rung by rung     recorder.py      one forward pass -> nodes
  what a        parts.py           names of modules and weights          tape.py          nodes, edges and notes
  recorder      origins.py         which node made a tensor              values.py        known values, and guesses
  knows         outcomes.py        what an operator call does            bounded.py       sizes that depend on data
                calls.py           one call and its arguments            places.py        lines of the network's code
                torch_ops.py       framework operators -> vocabulary     torch_names.py   its table of names
  around it     examples.py        example inputs                        module_state.py  a module is left as it was
                block.py           parts that are constructed once       pasting.py       parts that are recorded once
                python_exits.py    Python's ways out of a tensor         digest.py        hashes of constants
                higher_order.py    operators that take functions         time_limit.py    an end of endless passes
                definition.py      what code computes, as a hash         source.py        the source of functions
                sparse.py          products with sparse tensors
Programs        program_writer.py  calls -> Program                      rebuild.py       Program + weights -> module
ONNX            onnx_capture.py    ONNX files -> Graph                   onnx_reader.py    its nodes, one by one
                onnx_file.py       the file, checked
                onnx_tensors.py    shapes and values of tensors          onnx_patterns.py  several nodes that are one
                onnx_ops.py        ONNX operators -> vocabulary          onnx_names.py     its table of names
                onnx_inputs.py     sizes of the inputs                   onnx_shapes.py    shapes that onnx leaves out
                onnx_lowering.py   ONNX Runtime's operators -> ONNX's    onnx_attention.py its attention
                onnx_writer.py     writes the nodes for them
Publications    published_files.py published computation graphs -> Graph
Packages        packages.py        names in timm and pytorchcv -> module
"""

from nasplat.frontends.block import block
from nasplat.frontends.onnx_capture import OnnxFile, capture_onnx
from nasplat.frontends.published_files import read_published
from nasplat.frontends.rebuild import rebuild
from nasplat.frontends.torch_capture import Recording, capture_module, collect_rarely, record_calls

__all__ = [
    "OnnxFile",
    "Recording",
    "block",
    "capture_module",
    "capture_onnx",
    "collect_rarely",
    "read_published",
    "rebuild",
    "record_calls",
]
