"""Report failures of torch.compile in one line."""

import textwrap
from contextlib import contextmanager

from zeroseg.errors import UnavailableError, ZerosegError


@contextmanager
def compile_errors():
    """Context for steps of a compiled network: the compiler's errors become a ZerosegError with the cause and the
    remedy.
    """
    try:
        yield
    except RuntimeError as error:
        # the compiler's own kinds; importing them to name them would take seconds
        if not type(error).__module__.startswith(("torch._dynamo.", "torch._inductor.")):
            raise
        inner = getattr(error, "inner_exception", error)
        cause = f"{type(inner).__name__}: {str(inner).strip().partition(chr(10))[0]}"
        if "InvalidCxxCompiler" in cause:
            raise UnavailableError(
                "--compile needs a C++ compiler, and none was found: install g++, name another with "
                "CXX=..., or leave --compile out"
            ) from error
        raise ZerosegError(
            f"--compile: {textwrap.shorten(cause, 240, placeholder=' ...')}; if a run was killed while it "
            "compiled, delete its cache (the folder TORCHINDUCTOR_CACHE_DIR, or torchinductor_USER in "
            "the folder of temporary files); otherwise leave --compile out"
        ) from error
