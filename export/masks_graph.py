"""The self-contained graph for other programs: an image and label vectors in, finished masks out.

    image             (B, 3, H, W) float32, as for the network alone
    label_embeddings  (N, D) float32 unit rows, N >= 1
    threshold         () float32, optional: the sidecar's
    size              (2,) int64, optional: (H, W) of the map; 0 stands for the side of `image`

    label_map         (B, H, W) int32, index into the labels, -1 for background
    segment_scores    (B, K, N) float32, what the threshold was compared with

It does what zeroseg.segment.scores and kernels/mask_decode do, in ONNX's own operators and in float32. The optional
inputs have defaults inside the file.
"""

import copy

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from zeroseg.segment.scores import FALL, REST
from zeroseg.sidecar import Sidecar

LABEL_MAP, SCORES, PREFIX = "label_map", "segment_scores", "masks"


def masks_graph(network: ModelProto, sidecar: Sidecar) -> ModelProto:
    """A copy of a network with segments (opset 18) with the nodes appended that turn its outputs into a label map."""
    model = copy.deepcopy(network)
    build = _Builder(model.graph)
    build.inputs(sidecar)
    build.table(build.scores(sidecar))
    del model.graph.output[:]
    float32 = TensorProto.FLOAT
    model.graph.output.extend(
        [
            helper.make_tensor_value_info(LABEL_MAP, TensorProto.INT32, ["batch", "map_height", "map_width"]),
            helper.make_tensor_value_info(SCORES, float32, ["batch", sidecar.segments, "labels"]),
        ]
    )
    model.ir_version = max(model.ir_version, 4)
    return model


class _Builder:
    def __init__(self, graph):
        self.graph = graph

    def constant(self, key: str, value) -> str:
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(value), f"{PREFIX}/{key}"))
        return f"{PREFIX}/{key}"

    def node(self, operator: str, inputs: list[str], output: str, **attributes) -> str:
        output = output if output in (LABEL_MAP, SCORES) else f"{PREFIX}/{output}"
        self.graph.node.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def inputs(self, sidecar: Sidecar) -> None:
        shape = ["labels", sidecar.embedding_dim]
        self.graph.input.append(helper.make_tensor_value_info("label_embeddings", TensorProto.FLOAT, shape))
        for key, value in {"threshold": np.float32(sidecar.threshold), "size": np.zeros(2, np.int64)}.items():
            value = np.asarray(value)
            self.graph.initializer.append(numpy_helper.from_array(value, key))
            kind = helper.np_dtype_to_tensor_dtype(value.dtype)
            self.graph.input.append(helper.make_tensor_value_info(key, kind, value.shape))

    def unit(self, rows: str, key: str) -> str:
        """Rows of length 1 over the last axis; as zeroseg.segment.scores.unit."""
        squares = self.node("Mul", [rows, rows], f"{key}_squares")
        total = self.node("ReduceSum", [squares, self.constant(f"{key}_axis", [-1])], f"{key}_total", keepdims=1)
        length = self.node("Sqrt", [total], f"{key}_length")
        floor = self.constant(f"{key}_floor", np.float32(1e-3 if key == "directions" else 1e-12))
        return self.node("Div", [rows, self.node("Max", [length, floor], f"{key}_divisor")], key)

    def scores(self, sidecar: Sidecar) -> str:
        embeddings, labels = "segment_embeddings", "label_embeddings"
        if sidecar.scoring.centre is None:
            embeddings = self.unit(embeddings, "unit_embeddings")
        else:
            centred = self.node("Sub", [labels, self.constant("centre", sidecar.scoring.centre)], "centred")
            labels = self.unit(centred, "directions")
        labels_DN = self.node("Transpose", [labels], "labels", perm=[1, 0])
        if not sidecar.scoring.share:
            return self.node("MatMul", [embeddings, labels_DN], SCORES)
        plain = self.node("MatMul", [embeddings, labels_DN], "plain_scores")
        best = self.node("ReduceMax", [plain, self.constant("segments_axis", [1])], "best_segment", keepdims=1)
        share = self.node("Mul", [best, self.constant("share", np.float32(sidecar.scoring.share))], "share_of_best")
        short = self.node("Relu", [self.node("Sub", [share, plain], "difference")], "short")
        loss = self.node("Mul", [short, self.constant("fall", np.float32(FALL))], "loss")
        fallen = self.node("Sub", [plain, loss], "fallen")
        positive = self.node("Relu", [plain], "positive")
        part = self.node("Mul", [positive, self.constant("rest", np.float32(REST))], "rest_of_positive")
        return self.node("Max", [self.node("Min", [plain, part], "least"), fallen], SCORES)

    def table(self, scores: str) -> None:
        zero, two = self.constant("zero", np.zeros(1, np.int64)), self.constant("two", np.array([2], np.int64))
        four, flat = self.constant("four", np.array([4], np.int64)), self.constant("flat", np.array([0, -1], np.int64))
        last, background = self.constant("last", np.array([-1])), self.constant("background", np.array(-1, np.int64))
        image_shape = self.node("Shape", ["image"], "image_shape")
        own = self.node("Slice", [image_shape, two, four], "image_sides")
        given = self.node("Greater", ["size", zero], "size_given")
        sides = self.node("Where", [given, "size", own], "sides")
        maps_shape = self.node("Shape", ["segment_maps"], "maps_shape")
        front = self.node("Slice", [maps_shape, zero, two], "maps_front")
        sizes = self.node("Concat", [front, sides], "sizes", axis=0)
        large = self.node(
            "Resize",
            ["segment_maps", "", "", sizes],
            "maps",
            mode="linear",
            coordinate_transformation_mode="half_pixel",
        )
        winner = self.node("ArgMax", [large], "winner", axis=1, keepdims=0)
        best = self.node("ReduceMax", [scores, last], "best", keepdims=0)
        which = self.node("ArgMax", [scores], "which", axis=2, keepdims=0)
        below = self.node("Less", [best, "threshold"], "below")
        table_BK = self.node("Where", [below, background, which], "table")
        winner_flat = self.node("Reshape", [winner, flat], "winner_flat")
        looked_up = self.node("GatherElements", [table_BK, winner_flat], "looked_up", axis=1)
        shaped = self.node("Reshape", [looked_up, self.node("Shape", [winner], "winner_shape")], "shaped")
        self.node("Cast", [shaped], LABEL_MAP, to=TensorProto.INT32)
