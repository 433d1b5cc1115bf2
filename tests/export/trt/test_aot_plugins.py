"""The ahead-of-time plugins: what they tell TensorRT, held to the facts of tensorrt.plugin, and the kernels' values.

Triton's interpreter runs a kernel with the arguments in TensorRT's order: inputs, int32 sizes, outputs. The PTX that
the compiler makes of it has exactly these parameters.
"""

import os
import re
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

from tests.export.trt import fake_plugin  # noqa: E402
from tests.export.trt.fake_plugin import VERSIONS, make_plugin, run  # noqa: E402
from zeroseg.errors import UnavailableError, ZerosegError  # noqa: E402
from zeroseg.export.trt.aot_plugins import register_plugins  # noqa: E402
from zeroseg.kernels import _triton  # noqa: E402
from zeroseg.kernels.aot_plugins import PluginKernel, drop_parameters  # noqa: E402
from zeroseg.kernels.segment_attention import reference  # noqa: E402

ATOL = 1e-5  # as in the kernels' own tests
SIZES = [(1, 1, 1, 1, 1), (2, 197, 8, 24, 24), (3, 101, 33, 31, 13)]  # B, L, S, C, D


class Interpreted:
    """Stands for the compiler: keeps the entry, so that the interpreter can run the kernel that would be compiled."""

    def __call__(self, entry):
        self.entry = entry
        return PluginKernel(entry.kernel.__name__, "", 32 * entry.num_warps, 0)

    def launch(self, launched, inputs, outputs):
        if not _triton.interpreted():
            pytest.skip("needs TRITON_INTERPRET=1 from the start")
        assert [kind for kind, _ in map(self.kind, [*inputs, *launched.sizes, *outputs])] == list(
            self.entry.types.values()
        )
        grid = launched.grid if launched.grid[1:] != (1, 1) else launched.grid[:1]
        self.entry.kernel[grid](*inputs, *launched.sizes, *outputs, **self.entry.fixed)

    @staticmethod
    def kind(argument):
        if isinstance(argument, int):
            return "i32", argument
        return {torch.float32: "*fp32", torch.int32: "*i32"}[argument.dtype], argument


@pytest.fixture
def register(install, monkeypatch):
    """register(version) -> (its tensorrt.plugin with zeroseg's plugins in it, the stand-in of the compiler)"""

    def register(version):
        trt = install(version="11.4.0.106" if version[:2] == "11" else "10.16.1.11")
        module, compiler = make_plugin(version), Interpreted()
        monkeypatch.setitem(sys.modules, "tensorrt.plugin", module)
        register_plugins(trt, "8.7", compiler)
        register_plugins(trt, "8.7", compiler)  # the second time changes nothing
        return module, compiler

    return register


@pytest.fixture
def plugins(register):
    return register(VERSIONS[-1])


@pytest.mark.parametrize("version", VERSIONS[:-1])
def test_every_version_is_told_the_same(register, version):
    """Kernels, grids, arguments and outputs, so that values need comparing for one version only."""
    calls = [("segment_attention_assign", {"q": (3, 33, 31), "k": (3, 101, 31)}, {"groups": 33})]
    calls += [
        (
            "segment_attention_pool",
            {"v": (3, 101, 13), "used": used},
            {"groups": 33, "soft_pooling": len(used) - 2, "eps": 0.5},
        )
        for used in ((3, 101), (3, 101, 33))
    ]
    told = {
        name: [run(register(name)[0], f"zeroseg::{call[0]}", *call[1:]) for call in calls]
        for name in (version, VERSIONS[-1])
    }
    assert told[version] == told[VERSIONS[-1]]


@pytest.fixture
def poisoned():
    return lambda shape, dtype=torch.float32: torch.full(shape, -7 if dtype == torch.int32 else float("nan")).to(dtype)


@pytest.mark.parametrize("soft_pooling", [0, 1], ids=["hard", "soft"])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_segment_attention(plugins, poisoned, sizes, soft_pooling):
    B, L, S, C, D = sizes
    module, compiler = plugins
    q, k, v = torch.randn(B, S, C), torch.randn(B, L, C), torch.randn(B, L, D)
    made = run(module, "zeroseg::segment_attention_assign", {"q": (B, S, C), "k": (B, L, C)}, {"groups": S})
    assert made.outputs == [((B, L, S), "FLOAT"), ((B, L), "INT32")]
    soft, choice = poisoned((B, L, S)), poisoned((B, L), torch.int32)
    compiler.launch(made, [q, k], [soft, choice])
    used = soft if soft_pooling else choice
    made = run(
        module,
        "zeroseg::segment_attention_pool",
        {"v": (B, L, D), "used": tuple(used.shape)},
        {"groups": S, "soft_pooling": soft_pooling, "eps": 0.25},
    )
    assert made.outputs == [((B, S, D), "FLOAT"), ((B, S), "FLOAT")]
    pooled, total = poisoned((B, S, D)), poisoned((B, S))
    compiler.launch(made, [v, used], [pooled, total])
    truth = reference.segment_attention(
        q, k, v, normalize_keys=False, soft_pooling=bool(soft_pooling), eps=0.25, tau=1.0, seed=None
    )
    torch.testing.assert_close(pooled, truth[0], atol=ATOL, rtol=0)
    assert (choice == truth[1]).all()
    torch.testing.assert_close(soft, truth[3], atol=ATOL, rtol=0)
    torch.testing.assert_close(total, (truth[3] if soft_pooling else truth[2]).sum(1) + 0.25, atol=1e-4, rtol=0)


COMPILE = """
import re, sys
from zeroseg.kernels.aot import find_target
from zeroseg.kernels import aot_plugins as a
entries = (a.assign_entry(64), a.pool_entry(8, 1.0, True), a.pool_entry(32, 1.0, False))
for entry in entries[int(sys.argv[3]):]:
    kernel = a.compile_plugin(entry, find_target(sys.argv[1]))
    parameters = re.search(r"\\.entry\\s+" + kernel.symbol + r"\\s*\\((.*?)\\)", kernel.ptx, re.DOTALL)[1]
    kinds = [{"u64": "pointer", "u32": "i32"}[kind] for kind in re.findall(r"\\.param \\.(\\w+)", parameters)]
    expected = ["i32" if kind == "i32" else "pointer" for kind in entry.types.values()]
    assert kinds == expected, (entry.name, kinds)
    assert re.search(r"\\.reqntid " + str(kernel.threads), kernel.ptx) and kernel.shared_bytes <= 48 * 1024
    print(entry.name, kernel.symbol, re.search(r"\\.version (\\S+)", kernel.ptx)[1])
    open(sys.argv[2] + "/" + entry.name + ".ptx", "w").write(kernel.ptx)
"""


@pytest.mark.parametrize(("target", "version", "skipped"), [("sm_87", "8.4", 0), ("sm_120", "8.7", 2)])
def test_ptx_has_the_parameters_that_tensorrt_passes(target, version, skipped, tmp_path):
    """In a process of its own, because this one may interpret kernels; Triton's assembler takes what was cut back."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    arguments = [target, str(tmp_path), str(skipped)]
    done = subprocess.run(
        [sys.executable, "-c", COMPILE, *arguments],
        capture_output=True,
        text=True,
        env=environment | {"TRITON_DEFAULT_FP_FUSION": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert [line.split()[2] for line in done.stdout.splitlines()] == [version] * (3 - skipped)
    import triton

    [assembler, *_] = [
        path
        for path in (
            os.path.join(os.path.dirname(triton.__file__), "backends/nvidia/bin", name)
            for name in ("ptxas-blackwell", "ptxas")
        )
        if os.path.exists(path)
    ]
    for path in tmp_path.glob("*.ptx"):
        sm = re.search(r"^\.target (sm_\w+)", path.read_text(), re.MULTILINE)[1]
        done = subprocess.run([assembler, f"-arch={sm}", str(path), "-o", os.devnull], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


PTX = """
.visible .entry f(
\t.param .u64 .ptr .global .align 1 f_param_0,
\t.param .u32 f_param_1,
\t.param .u64 .ptr .global .align 1 f_param_10
)
.reqntid 128
{
\tld.param.b64 %rd1, [f_param_1];
}
"""


def test_a_scratch_pointer_is_dropped_only_where_nobody_reads_it():
    assert re.findall(r"f_param_\d+", drop_parameters(PTX, "f", 1).split(")")[0]) == ["f_param_0", "f_param_1"]
    with pytest.raises(ZerosegError, match="uses Triton's scratch memory .f_param_10."):
        drop_parameters(PTX.replace("[f_param_1]", "[f_param_10]"), "f", 1)


def test_tensorrt_without_them_says_so(install, monkeypatch):
    trt = install(version="10.3.0")
    monkeypatch.setitem(sys.modules, "tensorrt.plugin", None)
    with pytest.raises(UnavailableError, match=r"--plugins aot: TensorRT 10.3.0 has no tensorrt.plugin .*--plugins v3"):
        register_plugins(trt, "8.7")
    monkeypatch.setitem(sys.modules, "tensorrt.plugin", make_plugin(fake_plugin.WITHOUT_AOT))
    with pytest.raises(UnavailableError, match="has no tensorrt.plugin.aot_impl, 10.9 and later have it"):
        register_plugins(trt, "8.7")
