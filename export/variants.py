"""One model in several precisions, each made from the float32 graph and checked by the same gate."""

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnx import ModelProto

from zeroseg.artifact import read_artifact
from zeroseg.errors import ZerosegError
from zeroseg.export.data_flow import data_nodes
from zeroseg.export.divergence import TOLERANCE, first_divergence, name_nodes, node_values, rank_by_growth
from zeroseg.export.gate import Gate
from zeroseg.export.half_graph import half_nodes, rounded_graph, to_half_graph
from zeroseg.export.half_weights import store_weights_as_half
from zeroseg.export.int8_graph import OPERATORS, fold, quantisable, to_int8_graph
from zeroseg.export.islands import find_islands
from zeroseg.export.onnx_file import check, write_onnx
from zeroseg.export.parity import REQUIRED, Parity
from zeroseg.export.steps import Steps
from zeroseg.runtime.base import IMAGE, Runner
from zeroseg.runtime.opening import open_runner

PRECISIONS = ("fp32", "fp16", "int8")
# shares of the quantisable nodes that int8 tries to leave out, the most harmful first, until the gate passes
LEFT_OUT = (0, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4)


@dataclass
class Variant:
    """A written file and what was found about it. note: what was kept in float32. graph: with float32 weights."""

    precision: str
    path: Path
    graph: ModelProto
    parity: Parity
    note: str


class Workshop:
    """Makes variants of one float32 graph in a folder for temporary files.

    half_weights: the network's own weights by name, for store_weights_as_half; None to store float32.
    """

    def __init__(
        self,
        graph: ModelProto,
        sidecar: dict,
        gate: Gate,
        folder: Path,
        *,
        half_weights=None,
        calibration: list[np.ndarray] = (),
        symmetric=False,
        steps: Steps | None = None,
    ):
        self.graph, self.sidecar, self.gate, self.folder = name_nodes(graph), sidecar, gate, folder
        self.half_weights, self.symmetric, self.steps = half_weights, symmetric, steps or Steps()
        self.calibration, self.kept = calibration, frozenset()

    def make(self, precision: str) -> Variant:
        """The variant, whether it passes or not. ZerosegError if no graph of this precision can be made."""
        making = {"fp32": self._fp32, "fp16": self._fp16, "int8": self._int8}[precision]
        with self.steps.step(f"making the {precision} file"):
            graph, note = making()
            path = self._write(precision, graph)
        parity = self._check(f"comparing the {precision} file with the model", open_runner(read_artifact(path)))
        if precision == "fp16" and parity.ok:
            exact = self._open(rounded_graph(self.graph, self.kept))
            parity = self._check("comparing it as a machine that really stores float16 would compute it", exact)
        return Variant(precision, path, graph, parity, note)

    def _write(self, precision: str, graph: ModelProto) -> Path:
        path = self.folder / precision / "model.onnx"
        path.parent.mkdir(exist_ok=True)
        if precision != "fp16" and self.half_weights is not None:
            graph = store_weights_as_half(copy.deepcopy(graph), self.half_weights)
        content = graph.SerializeToString()
        if precision != "int8":  # ONNX Runtime's quantiser leaves types that only its own inference fills in
            check(content)
        write_onnx(content, path, {**self.sidecar, "precision": precision})
        return path

    def _check(self, name: str, runner: Runner) -> Parity:
        with self.steps.step(name, len(self.gate.cases), "input") as done:
            return self.gate.check(runner, done)

    def _fp32(self):
        return self.graph, ""

    def _fp16(self):
        names = set(half_nodes(self.graph))
        sizes = frozenset(names - data_nodes(self.graph))
        names -= sizes
        nodes = {node.name: node.op_type for node in self.graph.graph.node if node.name in names}

        def rounded(kept):
            return self._open(rounded_graph(self.graph, kept | sizes))

        # a few cases show where the damage is done; only all of them, as at the end, show that there is none
        kept = find_islands(
            nodes, lambda kept: self.gate.quick(rounded(kept)), lambda kept: self.gate.agrees(rounded(kept)), self.steps
        )
        self.kept = kept | sizes
        return to_half_graph(self.graph, self.kept), f"{len(kept)} of {len(nodes)} nodes in float32"

    def _int8(self):
        check(self.graph)  # the quantised graph cannot be
        folded = fold(self.graph, self.folder)
        names = quantisable(folded)
        feeds = [{IMAGE: image} for image in self.calibration]
        ranking, quantised = [], folded
        for share in LEFT_OUT:
            left_out = ranking[: int(share * len(names))]
            quantised = to_int8_graph(folded, feeds, self.folder, exclude=left_out, symmetric=self.symmetric)
            difference = self.gate.quick(self._open(quantised))[0]
            note = f"{len(left_out)} of {len(names)} products in float32"
            self.steps(f"int8: {note}: {100 * (1 - difference):.2f} % of pixels agree")
            if difference <= 1 - REQUIRED:
                break
            if not ranking:
                values = [node_values(graph, feeds[0]) for graph in (folded, quantised)]
                ranking = [name for name in rank_by_growth(folded, *values, set(OPERATORS)) if name in set(names)]
        return quantised, note

    def _open(self, graph: ModelProto) -> Runner:
        path = self.folder / "trial.onnx"
        write_onnx(graph, path, self.sidecar)
        return open_runner(read_artifact(path))

    def explain(self, variant: Variant, reference: dict[str, np.ndarray] | None = None) -> str:
        """Which node of a variant diverges first; reference: values of PyTorch's graph, else of the float32 graph."""
        feed = self.feed()
        reference = node_values(self.graph, feed) if reference is None else reference
        found = first_divergence(self.graph, reference, node_values(variant.graph, feed), TOLERANCE[variant.precision])
        return str(found) if found else "no node diverges on the first photo"

    def feed(self) -> dict[str, np.ndarray]:
        """The gate's first photo, alone."""
        return {IMAGE: self.gate.cases[0].image[:1]}


def refuse(out: Path, variant: Variant, why: str) -> ZerosegError:
    """The error for a variant that did not pass."""
    return ZerosegError(f"{out}: not written, {variant.parity.why_not()}; {why}")
