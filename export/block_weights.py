"""Store large weights as 8-bit integers with a scale per block, and compute in float32.

The rows of a weight (its first axis) are cut into blocks: of up to 32 numbers in convolutions, whose rounding changes
the masks more, and of up to 192 in matrices. A block is stored as int8 numbers and one
float16 scale, its largest absolute value / 127. The graph multiplies them again (Cast, Mul, Reshape). Runtimes fold
these nodes when they load the file, so speed and memory are those of float32, and the file has about half the size of
one with float16 weights. Small weights and those with short rows, such as depthwise convolutions, stay as they are:
they are few, and rounding them changes the masks most. So do the large weights that fragile_weights() finds.

The numbers are rounded, so the masks change a little. Whoever uses this compares them with the model's.
"""

import copy

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CONVOLUTION_BLOCK, MATRIX_BLOCK = 32, 192  # numbers of a block at most
LEAST_ELEMENTS = 20_000  # of a weight
LARGEST = 127  # of the int8 numbers: -128 is not used
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)


def store_weights_in_blocks(model: onnx.ModelProto, whole: frozenset[str] = frozenset()) -> onnx.ModelProto:
    """Change the model in place and return it. Its float32 and float16 initialisers of at least two axes are stored,
    except those named in `whole`.
    """
    nodes, more = [], []
    for tensor in model.graph.initializer:
        name, kind, shape = tensor.name, tensor.data_type, list(tensor.dims)
        block = _block_of(tensor)
        if block == 1 or name in whole:
            continue
        numbers, scales = to_blocks(numpy_helper.to_array(tensor), block)
        tensor.CopyFrom(numpy_helper.from_array(numbers, f"{name}/numbers"))
        more.append(numpy_helper.from_array(scales, f"{name}/scales"))
        more.append(numpy_helper.from_array(np.array(shape, np.int64), f"{name}/shape"))
        last = name if kind == TensorProto.FLOAT else f"{name}/float"
        steps = [
            ("Cast", [f"{name}/numbers"], f"{name}/numbers/float", {"to": TensorProto.FLOAT}),
            ("Cast", [f"{name}/scales"], f"{name}/scales/float", {"to": TensorProto.FLOAT}),
            ("Mul", [f"{name}/numbers/float", f"{name}/scales/float"], f"{name}/blocks", {}),
            ("Reshape", [f"{name}/blocks", f"{name}/shape"], last, {}),
        ]
        if kind != TensorProto.FLOAT:
            steps.append(("Cast", [last], name, {"to": kind}))
        nodes += [helper.make_node(op, inputs, [out], name=f"{out}.made", **attrs) for op, inputs, out, attrs in steps]
    nodes += model.graph.node
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(more)
    return model


def fragile_weights(model: onnx.ModelProto, feeds: list[dict], output: str, spare_bytes: int) -> frozenset[str]:
    """The weights to leave unrounded: those whose rounding alone changes an output most for each byte that it saves.

    feeds: inputs of the model, by name. spare_bytes: how much larger the file may become. Change is 1 - cosine of the
    output, its mean over the feeds.
    """
    exact = _outputs(model, feeds, output)
    harm = []
    for i, tensor in enumerate(model.graph.initializer):
        if (block := _block_of(tensor)) == 1:
            continue
        values = numpy_helper.to_array(tensor)
        numbers, scales = to_blocks(values, block)
        trial = copy.deepcopy(model)
        rounded = (numbers * scales.astype(np.float32)).reshape(values.shape).astype(values.dtype)
        trial.graph.initializer[i].CopyFrom(numpy_helper.from_array(rounded, tensor.name))
        saved = values.nbytes - numbers.nbytes - scales.nbytes
        pairs = zip(exact, _outputs(trial, feeds, output), strict=True)
        harm.append((np.mean([1 - _cosine(a, b) for a, b in pairs]) / saved, tensor.name, saved))
    found = set()
    for _, name, saved in sorted(harm, reverse=True):
        if saved <= spare_bytes:
            found.add(name)
            spare_bytes -= saved
    return frozenset(found)


def to_blocks(values: np.ndarray, block: int) -> tuple[np.ndarray, np.ndarray]:
    """values (n, ...) float, `block` a divisor of a row's elements -> numbers (n, blocks, block) int8 and scales
    (n, blocks, 1) float16; their product is within half a scale of the values.
    """
    rows = values.astype(np.float32).reshape(len(values), -1, block)
    scales = (np.abs(rows).max(-1, keepdims=True) / LARGEST).astype(np.float16)
    scales[scales == 0] = 1  # a block of zeros, or of numbers that float16 does not tell from zero
    numbers = np.rint(rows / scales.astype(np.float32)).clip(-LARGEST, LARGEST)
    return numbers.astype(np.int8), scales


def _outputs(model: onnx.ModelProto, feeds: list[dict], output: str) -> list[np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return [session.run([output], feed)[0].ravel().astype(np.float64) for feed in feeds]


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-300))


def _block_of(tensor: onnx.TensorProto) -> int:
    return _block(list(tensor.dims)) if tensor.data_type in _FLOATS else 1


def _block(shape: list[int]) -> int:
    """The largest divisor of a row's elements up to the block's size; 1 where the weight is to stay as it is."""
    row = int(np.prod(shape[1:])) if len(shape) > 1 else 0
    if row < CONVOLUTION_BLOCK or row * shape[0] < LEAST_ELEMENTS:
        return 1
    most = MATRIX_BLOCK if len(shape) == 2 else CONVOLUTION_BLOCK
    size = next(size for size in range(most, 0, -1) if row % size == 0)
    return size if size >= CONVOLUTION_BLOCK // 2 else 1
