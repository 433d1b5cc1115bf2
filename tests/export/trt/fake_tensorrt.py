"""A `tensorrt` made of facts: the names, enum members, signatures and properties of one real version, and no others.

An unknown attribute, enum member or keyword, a wrong number or type of arguments, or a property set that is read-only
raises, as it would on the device. Behind the face, real_builder.py has a real TensorRT for RTX parse and build, and
fake_behaviour.py runs engines in ONNX Runtime, on the addresses they were given. What a method of the facts does that
has no behaviour there is NotImplementedError, never a silent success.
"""

import inspect
import json
import types
from pathlib import Path

import numpy as np

FACTS = Path(__file__).resolve().parent / "facts"
RTX = "1.7.1.116"  # TensorRT for RTX
VERSIONS = ("10.3.0", "10.16.1.11", "11.4.0.106")


def make_tensorrt(machine, version: str, real) -> types.ModuleType:
    """The module, working on a FakeMachine; `module.record` holds what was done, for the tests."""
    from tests.export.trt import fake_behaviour

    facts = json.loads((FACTS / f"{'tensorrt_rtx' if version == RTX else 'tensorrt'}-{version}.json").read_text())
    module = types.ModuleType(facts["module"])
    module.__version__ = version
    enums = {name: make_enum(name, members) for name, members in facts["enums"].items()}
    for name, kind in enums.items():
        setattr(module, name, kind)
    behaviours = fake_behaviour.make(module, machine, real)
    for name, kind in facts["classes"].items():
        bases = tuple(getattr(module, base) for base in kind["bases"])
        setattr(module, name, make_class(name, kind, behaviours.get(name), bases, module))
    module.nptype = lambda trt_type: {"FLOAT": np.float32, "HALF": np.float16, "INT32": np.int32}[trt_type.name]
    registry = create(module, "IPluginRegistry", _libraries={})
    assert facts["functions"]["get_plugin_registry"]
    module.get_plugin_registry = lambda: registry
    return module


def make_enum(name: str, members: dict[str, int]) -> type:
    """As pybind11 makes them: int(x) works, 1 << x does not."""

    def __init__(self, member, value):
        self.name, self.value = member, value

    kind = type(
        name,
        (),
        {
            "__init__": __init__,
            "__int__": lambda self: self.value,
            "__index__": lambda self: self.value,
            "__repr__": lambda self: f"{name}.{self.name}",
        },
    )
    kind.__members__ = {member: kind(member, value) for member, value in members.items()}
    for member, item in kind.__members__.items():
        setattr(kind, member, item)
    return kind


def make_class(name: str, facts: dict, behaviour: type | None, bases: tuple, module) -> type:
    space = {"__setattr__": _set_attribute, "__module__": "tensorrt"}
    for inner, members in facts["enums"].items():
        space[inner] = make_enum(inner, members)
    for method, signatures in facts["methods"].items():
        work = getattr(behaviour, method, None)
        if method.startswith("__") and method not in vars(behaviour or object):
            continue
        space[method] = _method(f"{name}.{method}", [parse_signature(line) for line in signatures], work, module)
    for attribute, writable in facts["properties"].items():
        space[attribute] = _property(name, attribute, writable, inspect.getattr_static(behaviour, attribute, None))
    if "__init__" not in facts["methods"]:
        space["__init__"] = _no_constructor
    kind = type(name, bases or (object,), space)
    kind._behaviour = behaviour
    return kind


def create(module, kind: str, /, **state):
    """An object of a class that users cannot construct."""
    made = object.__new__(getattr(module, kind))
    made.__dict__.update(state)
    return made


def parse_signature(line: str) -> list[tuple[str, str, bool]]:
    """[(parameter, type, has a default)] without self, of "set_x(self: T, name: str, n: int = 1) -> bool"."""
    inside = line[line.index("(") + 1 : line.rindex(") ->")]
    parts, depth, current = [], 0, ""
    for letter in inside:
        depth += letter in "[(<"
        depth -= letter in "])>"
        if letter == "," and depth == 0:
            parts.append(current)
            current = ""
        else:
            current += letter
    parts = [part.strip() for part in [*parts, current] if part.strip()]
    parsed = []
    for part in parts[1:]:
        parameter, _, kind = part.partition(":")
        kind, _, default = kind.partition(" = ")
        parsed.append((parameter.strip(), kind.strip(), bool(default)))
    return parsed


def fits(value, kind: str, module) -> bool:
    """Whether pybind11 would take the value for a parameter of this type."""
    kind = kind.removeprefix("typing.").removeprefix("nvinfer1::").removeprefix("nvonnxparser::")
    if kind in ("int", "SupportsInt"):
        return isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if kind == "capsule":
        return True
    plain = {"str": str, "bool": bool, "float": (float, int), "tuple": tuple, "list": list, "object": object}
    if kind in plain:
        return isinstance(value, plain[kind])
    if kind == "buffer" or kind.endswith("Buffer"):
        try:
            memoryview(value)
        except TypeError:
            return isinstance(value, module.IHostMemory)
        return True
    if kind == "Dims":
        return isinstance(value, (tuple, list)) and all(isinstance(side, (int, np.integer)) for side in value)
    target = module
    for part in kind.split("."):
        target = getattr(target, part, None)
    return isinstance(target, type) and isinstance(value, target)


def bind(label: str, overloads, arguments, keywords, module) -> dict:
    """Arguments by name for the first overload that takes them; TypeError when none does."""
    for parameters in overloads:
        names = [name for name, _, _ in parameters]
        given = dict(zip(names, arguments, strict=False))
        if len(arguments) > len(names) or set(keywords) - set(names) or set(keywords) & set(given):
            continue
        given.update(keywords)
        if all(name in given or default for name, _, default in parameters) and all(
            fits(given[name], kind, module) for name, kind, _ in parameters if name in given
        ):
            return given
    raise TypeError(f"{label}(): incompatible arguments {arguments} {keywords}; supported: {overloads}")


def _method(label, overloads, work, module):
    def call(self, *arguments, **keywords):
        given = bind(label, overloads, arguments, keywords, module)
        if not self.__dict__.get("_constructed", True):
            raise TypeError(f"{label}: __init__() of the base class was not called")
        if work is None:
            raise NotImplementedError(f"{label}: the fake has no behaviour for it")
        return work(self, **given)

    return call


def _property(owner, name, writable, behaviour):
    if behaviour is not None:
        return behaviour

    def fget(self):
        if name not in self.__dict__:
            raise NotImplementedError(f"{owner}.{name}: the fake has no value for it")
        return self.__dict__[name]

    return property(fget, (lambda self, value: self.__dict__.__setitem__(name, value)) if writable else None)


def _set_attribute(self, name, value):
    if type(self).__module__ == "tensorrt" and not isinstance(getattr(type(self), name, None), property):
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
    object.__setattr__(self, name, value)  # subclasses of ours may keep what they like


def _no_constructor(self, *_, **__):
    raise TypeError(f"{type(self).__name__}: No constructor defined!")
