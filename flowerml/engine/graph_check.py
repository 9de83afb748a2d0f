"""A check of an ONNX graph before a session is made of it: operators, nodes, and where its tensors lie.

ONNX Runtime runs what a graph says: loops without end, functions that call each other twice (24 of them kept it busy
for 25 s and more), tensors in other files. flowerml's own graphs have none of these. The check reads the structure with
`protobuf`, which ONNX Runtime requires; the package `onnx` is not in a served model's environment.
"""

from collections.abc import Iterator
from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory  # type: ignore[import-untyped]
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from flowerml.core.display import printable
from flowerml.core.errors import ModelError

MAX_NODES = 20_000  # making a session of so many took 12 s in the worst case found
DOMAINS = (b"", b"ai.onnx")
OPERATORS = frozenset(
    b"""
    Abs Acos Acosh Add AffineGrid And ArgMax ArgMin Asin Asinh Atan Atanh Attention AveragePool BatchNormalization
    BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor BlackmanWindow Cast CastLike Ceil Celu CenterCropPad Clip Col2Im
    Concat Constant ConstantOfShape Conv ConvInteger ConvTranspose Cos Cosh CumSum DFT DeformConv DepthToSpace
    DequantizeLinear Det Div Dropout DynamicQuantizeLinear Einsum Elu Equal Erf Exp Expand EyeLike Flatten Floor GRU
    Gather GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool Greater GreaterOrEqual
    GridSample GroupNormalization HammingWindow HannWindow HardSigmoid HardSwish Hardmax Identity InstanceNormalization
    IsInf IsNaN LRN LSTM LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax LpNormalization LpPool MatMul
    MatMulInteger Max MaxPool MaxRoiPool MaxUnpool Mean MeanVarianceNormalization MelWeightMatrix Min Mish Mod Mul Neg
    Not OneHot Or PRelu Pad Pow QLinearConv QLinearMatMul QuantizeLinear RMSNormalization RNN Range Reciprocal ReduceL1
    ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu
    Reshape Resize ReverseSequence RoiAlign RotaryEmbedding Round STFT Scatter ScatterElements ScatterND Selu Shape
    Shrink Sigmoid Sign Sin Sinh Size Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Swish Tan
    Tanh ThresholdedRelu Tile TopK Transpose Trilu Unsqueeze Upsample Where Xor
    """.split()
)
"""ONNX's operators without control flow, sequences, text, randomness, and results whose size depends on values."""

# The parts of onnx.proto that are read: message -> (field, number, type, repeated).
_MESSAGES = {
    "Tensor": (("external_data", 13, "bytes", True), ("data_location", 14, "int64", False)),
    "Attribute": (
        ("t", 5, "Tensor", False),
        ("g", 6, "bytes", False),
        ("tensors", 10, "Tensor", True),
        ("graphs", 11, "bytes", True),
        ("sparse_tensor", 22, "bytes", False),
        ("sparse_tensors", 23, "bytes", True),
    ),
    "Node": (
        ("op_type", 4, "bytes", False),
        ("attribute", 5, "Attribute", True),
        ("domain", 7, "bytes", False),
    ),
    "Graph": (("node", 1, "Node", True), ("initializer", 5, "Tensor", True), ("sparse", 15, "bytes", True)),
    "Model": (("graph", 7, "Graph", False), ("training", 20, "bytes", True), ("functions", 25, "bytes", True)),
}
_SCALARS = {"bytes": 12, "int64": 3}  # descriptor_pb2.FieldDescriptorProto.Type


def check(content: bytes) -> None:
    """Raise ModelError for an ONNX file that is none, or has what flowerml never writes."""
    model = _model_type()()
    try:
        model.ParseFromString(content)
    except (DecodeError, RecursionError):
        raise ModelError("not an ONNX graph, or cut short") from None
    if not model.graph.node:
        raise ModelError("not an ONNX graph, or an empty one")
    for fault in _faults(model):
        raise ModelError(f"{fault}; flowerml writes no such graph, so it is not run")


def _faults(model: Any) -> Iterator[str]:
    if model.functions or model.training:
        yield "expected a graph alone, found functions"
    if len(model.graph.node) > MAX_NODES:
        yield f"expected at most {MAX_NODES:,} nodes, found {len(model.graph.node):,}"
    if model.graph.sparse:
        yield "found sparse tensors"
    yield from _external(model.graph.initializer)
    for node in model.graph.node:
        if node.domain not in DOMAINS or node.op_type not in OPERATORS:
            name = (node.domain + b"." + node.op_type).lstrip(b".").decode("utf-8", "replace")
            yield f"found the operator {printable(name, 60)}"
        for attribute in node.attribute:
            if attribute.g or attribute.graphs or attribute.sparse_tensor or attribute.sparse_tensors:
                yield "found a graph or a sparse tensor within a node"
            yield from _external([attribute.t, *attribute.tensors])


def _external(tensors: Any) -> Iterator[str]:
    if any(tensor.external_data or tensor.data_location for tensor in tensors):
        yield "found a tensor whose values lie in another file"


@cache
def _model_type() -> Any:
    """Return the class of a model; what is not declared above is kept as bytes, unread."""
    file = descriptor_pb2.FileDescriptorProto(name="flowerml/onnx.proto", package="flowerml.onnx", syntax="proto2")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind, repeated in fields:
            declared = message.field.add(name=field, number=number, label=3 if repeated else 1)
            if kind in _SCALARS:
                declared.type = _SCALARS[kind]
            else:
                declared.type, declared.type_name = 11, f".flowerml.onnx.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("flowerml.onnx.Model"))
