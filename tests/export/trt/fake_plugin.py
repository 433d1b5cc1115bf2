"""A `tensorrt.plugin` made of facts: the names and parameters of one real version, and the rules its code checks by.

Shapes are expressions, as in TensorRT: they are functions of the inputs' shapes, which nobody knows while a plugin
describes itself. `module.registered` holds what was registered; run() is what TensorRT does with an aot_impl.
"""

import inspect
import json
import types
import typing

from tests.export.trt.fake_tensorrt import FACTS

VERSIONS = ("10.9.0.34", "10.16.1.11", "11.4.0.106")
WITHOUT_AOT = "10.7.0"
ATTRIBUTES = (int, float, bytes, bool, str)  # one-dimensional arrays too, which zeroseg does not use


class Symbolic:
    """An integer that depends on shapes: rule(shapes) -> int."""

    def __init__(self, rule):
        self.rule = rule


def make_plugin(version: str) -> types.ModuleType:
    facts = json.loads((FACTS / f"tensorrt.plugin-{version}.json").read_text())
    module = types.ModuleType("tensorrt.plugin")
    module.registered, module.op = {}, types.SimpleNamespace()
    for name, thing in {**_expressions(facts), **_decorators(module)}.items():
        known = facts["functions"] if inspect.isfunction(thing) else facts["classes"]
        if name in known:  # what this version lacks, is not there
            setattr(module, name, thing)
            if inspect.isfunction(thing):
                assert list(inspect.signature(thing).parameters) == [p.rstrip("=") for p in known[name]], name
            else:
                assert known[name]["public"], f"tensorrt.plugin {version}: {name} is not public"
                _check_members(thing, name, facts["classes"])
    return module


def _check_members(kind, name, classes) -> None:
    """Every method and property that the fake offers is one of the real class or its bases."""
    known = {"__dict__", "__weakref__", "__module__", "__doc__", "__hash__", "__init__", "__bool__"}  # the last refuses
    todo = [name]
    while todo:
        facts = classes.get(todo.pop(), {"methods": {}, "properties": {}, "bases": []})
        known |= {*facts["methods"], *facts["properties"]}
        todo += facts["bases"]
    for member in {key for base in kind.__mro__[:-1] for key in vars(base)} - known:
        assert member.startswith("_fake"), f"tensorrt.plugin.{name} has no {member}"


def _expressions(facts) -> dict:
    has_arithmetic = facts["classes"].get("SymIntExpr", facts["classes"]["ShapeExpr"])["methods"]

    def combine(rule):
        def operation(self, other):
            if not isinstance(other, (int, SymIntExpr)):
                raise TypeError(f"expected an int or an expression, got {other!r}")
            kind = ShapeExpr if isinstance(self, ShapeExpr) else SymIntExpr  # the sum of two SymInt32 is none
            return kind(Symbolic(lambda s: rule(self._fake_value(s), _value(other, s))))

        return operation

    def _value(thing, shapes) -> int:
        return thing if isinstance(thing, int) else thing._fake_value(shapes)

    class SymIntExpr:
        def __init__(self, value=None):
            if isinstance(value, float):
                raise ValueError("Float symbolic expressions are not supported")
            if not isinstance(value, (int, Symbolic, SymIntExpr)):
                raise TypeError(f"expected an int or an expression, got {value!r}")
            self._fake_rule = (
                value.rule
                if isinstance(value, Symbolic)
                else value._fake_rule
                if isinstance(value, SymIntExpr)
                else lambda shapes, value=value: value
            )

        def _fake_value(self, shapes):
            return self._fake_rule(shapes)

        def __bool__(self):
            raise RuntimeError("Cannot evaluate symbolic expression as boolean.")

        __hash__ = None
        __add__, __sub__ = combine(lambda a, b: a + b), combine(lambda a, b: a - b)
        __mul__, __floordiv__ = combine(lambda a, b: a * b), combine(lambda a, b: a // b)
        __eq__, __lt__ = combine(lambda a, b: int(a == b)), combine(lambda a, b: int(a < b))

    assert {"__add__", "__sub__", "__mul__", "__floordiv__", "__eq__", "__lt__"} <= set(has_arithmetic)

    class SymInt32(SymIntExpr):
        pass

    class ShapeExpr(SymInt32):
        pass

    class SymIntExprs:
        def __init__(self, length):
            self._fake_items = [None] * length

        def __setitem__(self, index, value):
            self._fake_items[index] = value if isinstance(value, SymIntExpr) else SymIntExpr(value)

        def __getitem__(self, index):
            return self._fake_items[index]

        def __len__(self):
            return len(self._fake_items)

    class KernelLaunchParams:
        def __init__(self):
            for name in ("grid_x", "grid_y", "grid_z", "block_x", "block_y", "block_z"):
                setattr(self, name, 1)
            self.shared_mem = 0

        def __setattr__(self, name, value):
            if (
                name not in facts["classes"]["KernelLaunchParams"]["methods"]["__init__"]
                and f"{name}=" not in (facts["classes"]["KernelLaunchParams"]["methods"]["__init__"])
            ):
                raise AttributeError(f"KernelLaunchParams object has no attribute '{name}'")
            self.__dict__[name] = SymInt32(value)

    class TensorDesc:
        def __init__(self, shape_expr=None, dtype=None, format=None, scale=None):
            self._fake_shape, self._fake_dtype = shape_expr, dtype

        @property
        def shape_expr(self):
            return self._fake_shape

        @property
        def dtype(self):
            return self._fake_dtype

    def from_shape_expr(shape_expr, dtype):
        assert isinstance(shape_expr, tuple)
        return TensorDesc([side if isinstance(side, ShapeExpr) else ShapeExpr(side) for side in shape_expr], dtype)

    def cdiv(first, second):
        assert not (isinstance(first, int) and isinstance(second, int))
        return ShapeExpr(Symbolic(lambda s: -(-_value(first, s) // _value(second, s))))

    def max(first, second):
        assert not (isinstance(first, int) and isinstance(second, int))
        largest = __builtins__["max"] if isinstance(__builtins__, dict) else __builtins__.max
        return ShapeExpr(Symbolic(lambda s: largest(_value(first, s), _value(second, s))))

    return {
        kind.__name__: kind
        for kind in (SymInt32, ShapeExpr, SymIntExprs, KernelLaunchParams, TensorDesc, from_shape_expr, cdiv, max)
    }


def _decorators(module) -> dict:
    """register and aot_impl refuse what the real ones refuse: missing or unknown annotations, another signature."""

    def register(plugin_id, lazy_register=False):
        namespace, name = plugin_id.split("::")
        assert "." not in plugin_id and namespace not in ("", "trt", "tensorrt", "std")

        def decorator(function):
            tensors, attributes = [], {}
            for key, item in inspect.signature(function).parameters.items():
                if item.default is not item.empty:
                    raise ValueError(f"Argument {key} has a default value")
                if inspect.isclass(item.annotation) and issubclass(item.annotation, module.TensorDesc):
                    if attributes:
                        raise ValueError("TensorDescs args and attribute args cannot be interspersed")
                    tensors.append(key)
                elif item.annotation not in ATTRIBUTES or key in ("outputs", "stream", "tactic"):
                    raise ValueError(f"Attribute '{key}' of type {item.annotation} is not supported")
                else:
                    attributes[key] = item.annotation
            returned = inspect.signature(function).return_annotation
            if typing.get_origin(returned) is not tuple:
                raise ValueError(f"Return argument is of type {returned}")
            assert all(issubclass(part, module.TensorDesc) for part in typing.get_args(returned))
            inside = vars(module.op).setdefault(namespace, types.SimpleNamespace())
            if hasattr(inside, name):
                raise ValueError(f"there already is a definition for '{name}'")
            setattr(inside, name, plugin_id)
            module.registered[plugin_id] = types.SimpleNamespace(
                describe=function,
                tensors=tensors,
                attributes=attributes,
                outputs=len(typing.get_args(returned)),
                kernel=None,
            )
            return function

        return decorator

    def aot_impl(plugin_id):
        def decorator(function):
            plugin = module.registered[plugin_id]
            signature = inspect.signature(function)
            expected = [*plugin.tensors, *plugin.attributes, "outputs", "tactic"]
            if list(signature.parameters) != expected:
                raise ValueError(f"Signature of the aot_impl function '{signature}' does not match {expected}")
            for key, kind in plugin.attributes.items():
                if signature.parameters[key].annotation is not kind:
                    raise ValueError(f"Attribute '{key}' has a type annotation different from registration")
            parts = typing.get_args(signature.return_annotation)
            assert parts[:2] == (str, str) and issubclass(parts[2], module.KernelLaunchParams)
            assert issubclass(parts[3], module.SymIntExprs) and len(parts) == 4
            plugin.kernel = function
            return function

        return decorator

    return {"register": register, "aot_impl": aot_impl}


class Launched(typing.NamedTuple):
    """symbol and ptx of the kernel, grid, threads and shared_bytes as numbers, sizes the int32 arguments, outputs
    (shape, type) of every output.
    """

    symbol: str
    ptx: str
    grid: tuple[int, int, int]
    threads: int
    shared_bytes: int
    sizes: list[int]
    outputs: list[tuple[tuple[int, ...], str]]


def run(module, plugin_id: str, shapes: dict[str, tuple[int, ...]], attributes: dict) -> Launched:
    """Ask the plugin for its outputs and its kernel without knowing any shape, then fill the shapes in."""
    plugin = module.registered[plugin_id]
    assert set(shapes) == set(plugin.tensors) and {key: type(value) for key, value in attributes.items()} == (
        plugin.attributes
    )
    tensors = [
        module.TensorDesc(
            [module.ShapeExpr(Symbolic(lambda s, key=key, axis=axis: s[key][axis])) for axis in range(len(shape))]
        )
        for key, shape in shapes.items()
    ]
    outputs = plugin.describe(*tensors, **attributes)
    assert isinstance(outputs, tuple) and len(outputs) == plugin.outputs
    symbol, ptx, params, arguments = plugin.kernel(*tensors, *attributes.values(), outputs, 0)
    sizes = []
    for index in range(len(arguments)):
        if not isinstance(arguments[index], module.SymInt32):
            raise TypeError(f"Extra args must be a 'tensorrt.plugin.SymInt32'.  Got: {type(arguments[index])}.")
        sizes.append(arguments[index]._fake_value(shapes))
    value = {name: item._fake_value(shapes) for name, item in vars(params).items()}
    assert all(0 <= size < 2**31 for size in (*sizes, *value.values()))
    return Launched(
        symbol,
        ptx,
        (value["grid_x"], value["grid_y"], value["grid_z"]),
        value["block_x"],
        value["shared_mem"],
        sizes,
        [(tuple(side._fake_value(shapes) for side in output.shape_expr), output.dtype.name) for output in outputs],
    )
