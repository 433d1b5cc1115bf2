"""The folder rules of CONTRIBUTING.md, read from the source: who may import whom, and what may be named how."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ["kernels", "export", "training", "bench"]
SOURCES = sorted(path for top in ["zeroseg", *FOLDERS] for path in (ROOT / top).rglob("*.py"))

# A file here named like a dependency or a standard module would shadow it for whoever runs a script from its folder.
TAKEN = {
    "onnx",
    "onnxruntime",
    "onnxscript",
    "tensorrt",
    "triton",
    "torch",
    "torchvision",
    "timm",
    "numpy",
    "PIL",
    "click",
    "tqdm",
    "datasets",
    "transformers",
    "open_clip",
    "supervision",
    "safetensors",
    "cuda",
}
TAKEN |= set(sys.stdlib_module_names)
VAGUE = {"utils", "helpers", "misc", "common"}


def imported_modules(path: Path) -> set[str]:
    """Every module the file imports anywhere, function bodies included, as absolute names."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add("." * node.level + (node.module or ""))
    return found


def inside(module: str, packages: set[str]) -> bool:
    return any(module == package or module.startswith(package + ".") for package in packages)


def forbidden_for(path: Path) -> set[str]:
    """What a file must not import. kernels -> zeroseg -> {export, training, bench}; the right may import the left."""
    top = path.relative_to(ROOT).parts[0]
    if top == "zeroseg":  # the commands are entry points: they may start anything
        return set() if "commands" in path.parts else {"zeroseg.training", "zeroseg.export", "zeroseg.bench"}
    return {
        "kernels": {"zeroseg.training", "zeroseg.export", "zeroseg.bench"},
        "export": {"zeroseg.training", "zeroseg.bench"},
        "training": {"zeroseg.export", "zeroseg.bench"},
        "bench": {"zeroseg.training"},
    }[top]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path):
    modules = imported_modules(path)
    assert not {name for name in modules if inside(name, forbidden_for(path))}
    bare = {name for name in modules if inside(name, set(FOLDERS))}
    assert not bare, f"write zeroseg.<folder>, not {bare}: two identities of one module register its ops twice"
    assert not {name for name in modules if name.startswith(".")}, "write absolute imports"
    if path.relative_to(ROOT).parts[0] == "kernels":
        ours = {name for name in modules if inside(name, {"zeroseg"})}
        assert not {name for name in ours if not inside(name, {"zeroseg.kernels", "zeroseg.errors"})}


def module_name(path: Path) -> str:
    """As it is imported: kernels/tint/native.py is zeroseg.kernels.tint.native, as zeroseg/__init__.py maps it."""
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    parts = ["zeroseg", *parts] if parts[0] in FOLDERS else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def run_imports(path: Path, modules: set[str]) -> set[str]:
    """Those of the modules that the file imports when it or one of its functions runs: none for type checkers alone."""
    found, nodes = set(), [ast.parse(path.read_text(encoding="utf-8"))]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            nodes += node.orelse
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (names & modules) or {node.module}
        nodes += ast.iter_child_nodes(node)
    return (found & modules) - {module_name(path)}


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """[module, what it imports of the others] for the modules of all circles, and those on a path between two of them.

    It is what is left when modules that import none of the rest, or that none of the rest imports, are taken away.
    """
    left = dict(graph)
    while True:
        imported = set().union(*left.values())
        free = [name for name, imports in left.items() if not imports & left.keys() or name not in imported]
        if not free:
            return [[name, *sorted(imports & left.keys())] for name, imports in sorted(left.items())]
        for name in free:
            del left[name]


def test_no_import_circle():
    modules = {module_name(path): path for path in SOURCES}
    graph = {name: run_imports(path, set(modules)) for name, path in modules.items()}
    assert graph["zeroseg.kernels.mask_decode"] and graph["zeroseg.segment.segmenter"]  # else nothing was read
    assert circles(graph) == []


def test_circles_are_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set()}) == [["b", "c"], ["c", "b"]]


@pytest.mark.parametrize("folder", FOLDERS)
def test_folders_have_no_init(folder):
    assert not (ROOT / folder / "__init__.py").exists(), "it would hide other distributions of that name; see setup.py"


def test_modules_are_not_named_like_a_dependency():
    assert not [str(path) for path in SOURCES if path.stem in TAKEN | VAGUE and path.parent.name not in {"commands"}]


def test_files_are_short():
    files = [*SOURCES, *(ROOT / "tests").rglob("*.py")]
    long = {str(path.relative_to(ROOT)): n for path in files if (n := len(path.read_text().splitlines())) > 400}
    assert not long


def test_front_door_is_light():
    """import zeroseg and its commands pull in none of the heavy packages."""
    code = (
        "import sys, zeroseg, zeroseg.cli; "
        "print([m for m in ('torch', 'numpy', 'onnxruntime', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def test_base_modules_do_not_import_torch():
    code = (
        "import sys, zeroseg.segment.segmenter, zeroseg.photos.decode, zeroseg.runtime.ort_runner; "
        "import zeroseg.kernels.mask_decode; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "False"
