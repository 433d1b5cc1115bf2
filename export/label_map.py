"""The finished label map as one more output of the graph: what mask_decode does, in ONNX's own operators.

Two inputs have defaults inside the file, so that every runner can leave them out: `threshold` () float32, the
sidecar's, and `size` (2,) int64, the (H, W) of the map, where 0 stands for the side of `image`.
"""

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

LABEL_MAP = "label_map"  # (B, H, W) int32, index into the labels, -1 for background


def add_label_map(model: ModelProto, threshold: float) -> ModelProto:
    """Append the nodes, in place, to a graph that has the outputs segment_maps and segment_scores; opset 18."""
    graph, name = model.graph, lambda part: f"{LABEL_MAP}/{part}"
    defaults = {"threshold": np.float32(threshold), "size": np.zeros(2, np.int64)}
    constants = {"zero": np.zeros(1, np.int64), "two": np.array([2], np.int64), "four": np.array([4], np.int64),
                 "last": np.array([-1], np.int64), "background": np.array(-1, np.int64),
                 "flat": np.array([0, -1], np.int64)}  # fmt: skip
    for key, value in constants.items():
        graph.initializer.append(numpy_helper.from_array(value, name(key)))
    for key, value in defaults.items():
        graph.initializer.append(numpy_helper.from_array(np.asarray(value), key))
        kind = helper.np_dtype_to_tensor_dtype(np.asarray(value).dtype)
        graph.input.append(helper.make_tensor_value_info(key, kind, np.shape(value)))

    def node(operator, inputs, output, **attributes):
        graph.node.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    image_shape = node("Shape", ["image"], name("image_shape"))
    own = node("Slice", [image_shape, name("two"), name("four")], name("image_sides"))
    given = node("Greater", ["size", name("zero")], name("size_given"))
    sides = node("Where", [given, "size", own], name("sides"))
    maps_shape = node("Shape", ["segment_maps"], name("maps_shape"))
    front = node("Slice", [maps_shape, name("zero"), name("two")], name("maps_front"))
    sizes = node("Concat", [front, sides], name("sizes"), axis=0)
    large = node("Resize", ["segment_maps", "", "", sizes], name("maps"), mode="linear",
                 coordinate_transformation_mode="half_pixel")  # fmt: skip
    winner = node("ArgMax", [large], name("winner"), axis=1, keepdims=0)
    best = node("ReduceMax", ["segment_scores", name("last")], name("best"), keepdims=0)
    which = node("ArgMax", ["segment_scores"], name("which"), axis=2, keepdims=0)
    below = node("Less", [best, "threshold"], name("below"))
    table_BK = node("Where", [below, name("background"), which], name("table"))
    flat = node("Reshape", [winner, name("flat")], name("winner_flat"))
    looked_up = node("GatherElements", [table_BK, flat], name("looked_up"), axis=1)
    winner_shape = node("Shape", [winner], name("winner_shape"))
    shaped = node("Reshape", [looked_up, winner_shape], name("shaped"))
    node("Cast", [shaped], LABEL_MAP, to=TensorProto.INT32)
    axes = ["batch", "map_height", "map_width"]
    graph.output.append(helper.make_tensor_value_info(LABEL_MAP, TensorProto.INT32, axes))
    model.ir_version = max(model.ir_version, 4)
    return model
