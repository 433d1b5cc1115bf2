"""Run a frozen network fast: with ONNX Runtime if it is installed and agrees with torch, otherwise with torch.

On a CPU, ONNX Runtime fuses a convolutional network's layers and runs it in about half of torch's time. The graph is
traced with free batch, height and width. Tracing can freeze values that depend on these, so the graph is used only
after it gave torch's outputs on two other shapes.
"""

import io
import logging
import warnings

import numpy as np
import torch
from torch import nn

log = logging.getLogger(__name__)
TOLERANCE = 1e-3  # relative to the largest output; fp32 fusion reorders sums


class FrozenForward:
    """A network without gradients: images (B, 3, H, W) float32 in, a tuple of float32 tensors (B, ...) out.

    impl  "onnxruntime" or "torch": what runs.
    why   why it is not onnxruntime, "" if it is.
    """

    def __init__(self, module: nn.Module, multiple: int, impl: str = "auto", device: str = "cpu"):
        """module     returns a tensor or a tuple of tensors.
        multiple   H and W will be multiples of this.
        impl       "auto", "onnxruntime" (an error where it cannot run) or "torch".
        """
        if impl not in ("auto", "onnxruntime", "torch"):
            raise ValueError(f"impl: expected auto, onnxruntime or torch, got {impl!r}")
        self.module = module.eval().requires_grad_(False).to(device)
        self.device, self.impl, self.why = device, "torch", "torch was asked for"
        self._session = None
        if impl == "torch":
            return
        if device != "cpu":
            self.why = f"it runs on {device}"
        else:
            self._try_onnxruntime(multiple)
        if impl == "onnxruntime" and self.impl != impl:
            raise RuntimeError(f"onnxruntime cannot run this network: {self.why}")
        log.info("frozen network runs on %s%s", self.impl, f" ({self.why})" if self.why else "")

    @torch.no_grad()
    def __call__(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        if self._session is not None:
            outputs = self._session.run(None, {"images": np.ascontiguousarray(images.numpy())})
            return tuple(map(torch.from_numpy, outputs))
        outputs = self.module(images.to(self.device))
        return tuple(output.float().cpu() for output in _as_tuple(outputs))

    def _try_onnxruntime(self, multiple: int) -> None:
        try:
            import onnxruntime
        except ImportError:
            self.why = "onnxruntime is not installed"
            return
        try:
            graph = _trace(self.module, 4 * multiple)
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = torch.get_num_threads()
            options.log_severity_level = 3
            session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
            generator = torch.Generator().manual_seed(0)
            for batch, height, width in ((2, 3 * multiple, 4 * multiple), (1, 5 * multiple, 3 * multiple)):
                images = torch.randn(batch, 3, height, width, generator=generator)
                wanted = _as_tuple(self.module(images))
                got = session.run(None, {"images": images.numpy()})
                for a, b in zip(wanted, got, strict=True):
                    error = (a - torch.from_numpy(b)).abs().max() / a.abs().max().clamp(min=1e-6)
                    if error > TOLERANCE:
                        self.why = f"its output differs from torch's by {error:.1e} at {height}x{width}"
                        return
        except Exception as error:  # noqa: BLE001 any failure to trace or run means: use torch, and say why
            self.why = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            return
        self._session, self.impl, self.why = session, "onnxruntime", ""
        self.module = None


def _as_tuple(outputs) -> tuple[torch.Tensor, ...]:
    return (outputs,) if isinstance(outputs, torch.Tensor) else tuple(outputs)


@torch.no_grad()
def _trace(module: nn.Module, side: int) -> bytes:
    images = torch.randn(1, 3, side, side)
    outputs = _as_tuple(module(images))
    names = [f"out{i}" for i in range(len(outputs))]
    axes = {"images": {0: "B", 2: "H", 3: "W"}} | {name: {0: "B"} for name in names}
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (images,),
            buffer,
            input_names=["images"],
            output_names=names,
            dynamic_axes=axes,
            opset_version=17,
            dynamo=False,
        )
    return buffer.getvalue()
