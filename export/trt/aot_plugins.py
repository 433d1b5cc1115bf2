"""segment_attention as TensorRT's ahead-of-time plugins: Triton kernels that become part of the engine.

TensorRT asks, while it builds, for a kernel's PTX, its grid and its int32 arguments as expressions of the inputs'
shapes. The engine that results needs neither Python nor Triton, nor any library. One plugin has one kernel, so
segment_attention is two of them: tokens choose, then groups gather.

tensorrt.plugin has aot_impl from 10.9 on; in 10.7, where it first appears, plugins are Python functions only.
"""

from collections.abc import Callable
from importlib import import_module

from zeroseg.errors import UnavailableError
from zeroseg.runtime.trt_plugins import NAMESPACE

NEEDED = (10, 9)  # the first TensorRT whose tensorrt.plugin has aot_impl


def register_plugins(trt, sm: str, compile_kernel: Callable | None = None) -> None:
    """Register the plugins with this process's TensorRT; once is enough, more does nothing.

    sm              compute capability of the GPU, such as "8.7"; kernels are compiled for it when TensorRT asks.
    compile_kernel  Entry -> PluginKernel; None for zeroseg.kernels.aot_plugins.compile_plugin.

    UnavailableError where tensorrt.plugin lacks aot_impl, or Triton is not there to compile.
    """
    try:
        trtp = import_module("tensorrt.plugin")
    except ImportError as error:
        raise UnavailableError(
            f"--plugins aot: TensorRT {trt.__version__} has no tensorrt.plugin ({error}); 10.9 and later "
            "have it; --plugins v3 works from 10.3 on"
        ) from error
    if not hasattr(trtp, "aot_impl"):
        raise UnavailableError(
            f"--plugins aot: TensorRT {trt.__version__} has no tensorrt.plugin.aot_impl, 10.9 and later "
            "have it; --plugins v3 works from 10.3 on"
        )
    if compile_kernel is None:
        compile_kernel = _compiler(sm)
    if hasattr(trtp.op, NAMESPACE):
        return
    _register_assign(trt, trtp, compile_kernel)
    _register_pool(trt, trtp, compile_kernel)


def _compiler(sm: str):
    try:
        import triton  # noqa: F401
    except ImportError as error:
        raise UnavailableError(
            "--plugins aot: Triton compiles the kernels and is not installed: pip install 'zeroseg[gpu]'"
        ) from error
    from zeroseg.kernels.aot import find_target
    from zeroseg.kernels.aot_plugins import compile_plugin

    target = find_target(f"sm_{sm.replace('.', '')}")
    return lambda entry: compile_plugin(entry, target)


def _launch(trtp, kernel, blocks, sizes):
    """What an aot_impl returns: the kernel, its grid, its int32 arguments."""
    params = trtp.KernelLaunchParams()
    params.grid_x = blocks
    params.block_x = kernel.threads
    params.shared_mem = kernel.shared_bytes
    arguments = trtp.SymIntExprs(len(sizes))
    for index, size in enumerate(sizes):
        arguments[index] = trtp.SymInt32(size)
    return kernel.symbol, kernel.ptx, params, arguments


def _register_assign(trt, trtp, compile_kernel) -> None:
    name = f"{NAMESPACE}::segment_attention_assign"

    @trtp.register(name)
    def describe(q: trtp.TensorDesc, k: trtp.TensorDesc, groups: int) -> tuple[trtp.TensorDesc, trtp.TensorDesc]:
        B, L = k.shape_expr[0], k.shape_expr[1]
        return (
            trtp.from_shape_expr((B, L, q.shape_expr[1]), trt.DataType.FLOAT),
            trtp.from_shape_expr((B, L), trt.DataType.INT32),
        )

    @trtp.aot_impl(name)
    def kernel(
        q: trtp.TensorDesc,
        k: trtp.TensorDesc,
        groups: int,
        outputs: tuple[trtp.TensorDesc, trtp.TensorDesc],
        tactic: int,
    ) -> tuple[str, str, trtp.KernelLaunchParams, trtp.SymIntExprs]:
        from zeroseg.kernels.aot_plugins import assign_entry

        entry = assign_entry(groups)
        B, L, C = k.shape_expr[0], k.shape_expr[1], k.shape_expr[2]
        return _launch(trtp, compile_kernel(entry), B * trtp.cdiv(L, entry.fixed["BLOCK_L"]), (L, q.shape_expr[1], C))


def _register_pool(trt, trtp, compile_kernel) -> None:
    name = f"{NAMESPACE}::segment_attention_pool"

    @trtp.register(name)
    def describe(
        v: trtp.TensorDesc,
        used: trtp.TensorDesc,
        groups: int,
        soft_pooling: int,
        eps: float,
    ) -> tuple[trtp.TensorDesc, trtp.TensorDesc]:
        B, D = v.shape_expr[0], v.shape_expr[2]
        return (
            trtp.from_shape_expr((B, groups, D), trt.DataType.FLOAT),
            trtp.from_shape_expr((B, groups), trt.DataType.FLOAT),
        )

    @trtp.aot_impl(name)
    def kernel(
        v: trtp.TensorDesc,
        used: trtp.TensorDesc,
        groups: int,
        soft_pooling: int,
        eps: float,
        outputs: tuple[trtp.TensorDesc, trtp.TensorDesc],
        tactic: int,
    ) -> tuple[str, str, trtp.KernelLaunchParams, trtp.SymIntExprs]:
        from zeroseg.kernels.aot_plugins import pool_entry

        entry = pool_entry(groups, eps, bool(soft_pooling))
        B, L, D = v.shape_expr[0], v.shape_expr[1], v.shape_expr[2]
        return _launch(trtp, compile_kernel(entry), B * trtp.cdiv(D, entry.fixed["BLOCK_D"]), (L, groups, D))
