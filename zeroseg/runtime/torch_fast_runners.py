"""PyTorch without the overhead of the model's Python code: torch.compile, and CUDA graphs.

A new image size costs a recompilation or a new capture.
"""

from collections import OrderedDict

from zeroseg.artifact import Artifact
from zeroseg.errors import UnavailableError
from zeroseg.runtime.torch_runner import TorchRunner

KEPT_GRAPHS = 4  # image shapes; each graph holds the network's working memory


class CompiledRunner(TorchRunner):
    """torch.compile on the CPU, or on the GPU where there is one."""

    def __init__(self, artifact: Artifact, threads: int):
        super().__init__(artifact, threads)
        if self._torch.cuda.is_available():
            self._device = "cuda"
            self.model.to("cuda")
        self._compiled = self._torch.compile(self.model)

    def _forward(self, image):
        try:
            return self._compiled(image)
        except Exception as error:  # whatever its compilers raise; the eager model takes the same input
            if not type(error).__module__.startswith("torch._"):
                raise
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise UnavailableError(f"back end torch-compile cannot run here: {reason}; use back end torch") from error


class CudaGraphRunner(TorchRunner):
    """One captured graph per image shape, replayed; the least recently used of KEPT_GRAPHS goes first."""

    def __init__(self, artifact: Artifact, threads: int):
        super().__init__(artifact, threads)
        self._graphs = OrderedDict()  # shape -> (graph, its input, its output)

    def _forward(self, image):
        shape = tuple(image.shape)
        if shape not in self._graphs:
            self._graphs[shape] = self._capture(image)
            if len(self._graphs) > KEPT_GRAPHS:
                self._graphs.popitem(last=False)
        self._graphs.move_to_end(shape)
        graph, held, output = self._graphs[shape]
        held.copy_(image)
        graph.replay()
        return output

    def _capture(self, image):
        torch = self._torch
        held = image.clone()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # libraries choose algorithms and allocate before anything is recorded
            for _ in range(3):
                self.model(held)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            output = self.model(held)
        return graph, held, output
