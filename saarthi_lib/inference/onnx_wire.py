"""Check of a `model.onnx` before ONNX Runtime reads it: its operators, and weights in other files.

The file is read in protobuf's wire format, without the package `onnx`. The reader is stricter than
protobuf: it refuses every field that ONNX does not define, groups, and numbers that are written
longer than needed. So ONNX Runtime cannot find anything in a file that this check has not seen. A
message that occurs twice, which protobuf merges, is read twice.

The format: https://protobuf.dev/programming-guides/encoding; the fields: `onnx.proto`.
"""

from pathlib import Path

from saarthi_lib.errors import BundleError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types
_MOST_FIELDS = 1_000_000  # a teacher's graph has 40,000
_DEEPEST = 64  # messages in messages; the exports have 8

# Wire types of a field without messages. Repeated numbers may be packed.
_NUMBER, _TEXT, _FLOAT = (_VARINT,), (_BYTES,), (_FIXED32,)
_NUMBERS, _FLOATS, _DOUBLES = (_VARINT, _BYTES), (_FIXED32, _BYTES), (_FIXED64, _BYTES)

# Fields of each message by number: the message that it holds, or its wire types. Messages that hold
# neither tensors nor nodes are not opened and count as text.
_FIELDS: dict[str, dict[int, str | tuple[int, ...]]] = {
    "ModelProto": {
        **dict.fromkeys((1, 5), _NUMBER),
        **dict.fromkeys((2, 3, 4, 6, 8, 14, 26), _TEXT),
        7: "GraphProto",
        20: "TrainingInfoProto",
        25: "FunctionProto",
    },
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto", 3: _TEXT, 4: _TEXT},
    "GraphProto": {
        **dict.fromkeys((2, 10, 11, 12, 13, 14, 16), _TEXT),
        1: "NodeProto",
        5: "TensorProto",
        15: "SparseTensorProto",
    },
    "NodeProto": {**dict.fromkeys((1, 2, 3, 4, 6, 7, 8, 9, 10), _TEXT), 5: "AttributeProto"},
    "FunctionProto": {
        **dict.fromkeys((1, 4, 5, 6, 8, 9, 10, 12, 13, 14), _TEXT),
        7: "NodeProto",
        11: "AttributeProto",
    },
    "AttributeProto": {
        **dict.fromkeys((1, 4, 9, 13, 14, 15, 21), _TEXT),
        **dict.fromkeys((3, 20), _NUMBER),
        2: _FLOAT,
        5: "TensorProto",
        6: "GraphProto",
        7: _FLOATS,
        8: _NUMBERS,
        10: "TensorProto",
        11: "GraphProto",
        22: "SparseTensorProto",
        23: "SparseTensorProto",
    },
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto", 3: _NUMBERS},
    "TensorProto": {
        **dict.fromkeys((3, 6, 8, 9, 12, 13, 16), _TEXT),
        **dict.fromkeys((1, 5, 7, 11), _NUMBERS),
        **dict.fromkeys((2, 14), _NUMBER),
        4: _FLOATS,
        10: _DOUBLES,
    },
}
_OPERATOR, _DOMAIN = 4, 7  # fields of NodeProto
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14  # fields of TensorProto

# Operators of the exports of all students and teachers in all precisions. Operators that could run
# for ever, such as Loop, read files or call code are not among them.
_STANDARD = (
    "Abs Acos Add And Cast Ceil Clip Concat Constant ConstantOfShape Conv Cos CumSum "
    "DequantizeLinear Div DynamicQuantizeLinear Equal Erf Expand Flatten GRU Gather "
    "GatherElements GatherND Gelu Gemm Greater GreaterOrEqual Identity IsNaN LSTM "
    "LayerNormalization Less LessOrEqual Log MatMul MatMulInteger Min Mul Neg NonZero Not OneHot "
    "Pad Pow Range ReduceL2 ReduceMax ReduceMean ReduceSum Relu Reshape Scan ScatterND Shape "
    "Sigmoid Sign Sin Slice Softmax Split Sqrt Squeeze Sub Tanh Tile Transpose Unsqueeze Where"
)
_OF_RUNTIME = (
    "Attention DynamicQuantizeLSTM DynamicQuantizeMatMul GatherBlockQuantized QAttention "
    "SkipLayerNormalization"
)
OPERATORS = {  # by domain
    "": frozenset(_STANDARD.split()),
    "com.microsoft": frozenset(_OF_RUNTIME.split()),
}


def check_onnx(content: bytes, path: Path) -> None:
    """Check that a network keeps to the operators of our exports and is one file.

    Subgraphs, functions and training graphs are checked too.

    Args:
        content: the file's bytes.
        path: the file, for the message.

    Raises:
        BundleError: it has weights in another file, an operator that the exports do not use, or a
            function, or it is not in the format of ONNX.
    """
    reader = _Reader(content, path)
    reader.read()
    for domain, operator in sorted(reader.operators):
        if operator not in OPERATORS.get(domain, ()):
            name = f"{domain}.{operator}" if domain else operator
            raise BundleError(
                f"{path}: uses the ONNX operator {name[:100]!r}, which Saarthi's exports do not "
                "use; export the network again, or with runtime: torchscript"
            )
    if reader.has_functions:
        raise BundleError(
            f"{path}: defines ONNX functions, which Saarthi's exports do not use; export the "
            "network again"
        )


class _Reader:
    """Reads the messages of one file.

    Attributes:
        operators: domain and type of all nodes.
        has_functions: whether the model defines functions.
    """

    def __init__(self, content: bytes, path: Path) -> None:
        self.operators: set[tuple[str, str]] = set()
        self.has_functions = False
        self._content = content
        self._path = path
        self._fields = 0

    def read(self) -> None:
        """Read the whole file."""
        waiting = [("ModelProto", 0, len(self._content), 1)]
        while waiting:
            message, start, end, depth = waiting.pop()
            if depth > _DEEPEST:
                raise self._wrong(f"has more than {_DEEPEST} messages in each other")
            self.has_functions |= message == "FunctionProto"
            waiting += [(*inner, depth + 1) for inner in self._message(message, start, end)]

    def _message(self, message: str, at: int, end: int) -> list[tuple[str, int, int]]:
        """Read the fields of a message; returns the messages in it with their places."""
        fields, inner = _FIELDS[message], []
        operator: dict[int, str] = {}
        while at < end:
            self._fields += 1
            if self._fields > _MOST_FIELDS:
                raise self._wrong(f"has more than {_MOST_FIELDS} fields")
            tag, at = self._number(at, end, 5)
            number, wire = tag >> 3, tag & 7
            kind = fields.get(number, ())
            if wire not in (_TEXT if isinstance(kind, str) else kind):
                raise self._wrong(f"has a field {number} of wire type {wire} in a {message}")
            start, at = self._value(wire, at, end)
            if isinstance(kind, str):
                inner.append((kind, start, at))
            elif message == "NodeProto" and number in (_OPERATOR, _DOMAIN):
                if number in operator:
                    raise self._wrong(f"has field {number} of a node twice")
                operator[number] = self._content[start:at].decode("utf-8", "replace")
            elif message == "TensorProto" and self._is_elsewhere(number, start, at):
                raise BundleError(
                    f"{self._path}: has weights in another file, which is not loaded; export it as "
                    "one file"
                )
        if message == "NodeProto":
            self.operators.add((operator.get(_DOMAIN, ""), operator.get(_OPERATOR, "")))
        return inner

    def _is_elsewhere(self, number: int, start: int, end: int) -> bool:
        """Whether a field of a tensor says that its values are in another file."""
        if number == _DATA_LOCATION:
            return self._content[start:end] != b"\0"  # 0: in the tensor itself
        return number == _EXTERNAL_DATA

    def _value(self, wire: int, at: int, end: int) -> tuple[int, int]:
        """Start and end of a field's value."""
        start = at
        if wire == _VARINT:
            _, at = self._number(at, end, 10)
        elif wire == _BYTES:
            length, start = self._number(at, end, 5)
            at = start + length
        else:
            at += 8 if wire == _FIXED64 else 4
        if at > end:
            raise self._wrong("ends within a field")
        return start, at

    def _number(self, at: int, end: int, most: int) -> tuple[int, int]:
        """Read a varint of at most `most` bytes; returns it and the place after it."""
        number = shift = 0
        for place in range(at, min(end, at + most)):
            byte = self._content[place]
            number |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                if not byte and shift > 7:
                    raise self._wrong("has a number that is written longer than needed")
                return number, place + 1
        raise self._wrong("has a number that does not end")

    def _wrong(self, fault: str) -> BundleError:
        return BundleError(
            f"{self._path}: is not an ONNX model: it {fault}; export the network again"
        )
