"""The type stub against the module: every name, parameter, default and option, both ways."""
import ast
import inspect
import re
from pathlib import Path

import pytest

import pymmc

TREE = ast.parse((Path(pymmc.__file__).parent / "__init__.pyi").read_text(encoding="utf-8"))
CLASSES = {node.name: node for node in TREE.body if isinstance(node, ast.ClassDef) and node.name[0] != "_"}
FUNCTIONS = {node.name: node for node in TREE.body if isinstance(node, ast.FunctionDef)}
# Their keywords are options, which the constructor itself names when it gets one that it does not know.
WITH_OPTIONS = {"Client": "local://?dram=16MB", "MetaService": "tcp://127.0.0.1:0", "LocalService": "tcp://127.0.0.1:1",
                "TransferEngine": "tcp://127.0.0.1:0"}
PLAIN = set(dir(object)) | {"__module__", "__dict__", "__weakref__", "__annotations__", "__firstlineno__",
                            "__static_attributes__", "__buffer__", "__enter__", "__exit__", "__aenter__", "__aexit__"}


def members(node):
    """{name: node} of a class of the stub, those of its bases that are classes of the stub too."""
    found = {}
    for base in node.bases:
        if isinstance(base, ast.Name) and base.id in CLASSES:
            found.update(members(CLASSES[base.id]))
    for one in node.body:
        if isinstance(one, (ast.FunctionDef, ast.AsyncFunctionDef)):
            found[one.name] = one
        elif isinstance(one, ast.AnnAssign):
            found[one.target.id] = one
        elif isinstance(one, ast.Assign):
            found[one.targets[0].id] = one
    return found


def decorators(node):
    return {one.id for one in getattr(node, "decorator_list", ()) if isinstance(one, ast.Name)}


def parts(text):
    """The parameters of a signature, separated at the commas that are in no bracket and no text."""
    depth, quote, at, found = 0, "", 0, []
    for i, c in enumerate(text):
        if quote:
            quote = "" if c == quote and text[i - 1] != "\\" else quote
        elif c in "'\"":
            quote = c
        elif c in "[(":
            depth += 1
        elif c in "])":
            depth -= 1
        elif c == "," and depth == 0:
            found.append(text[at:i].strip())
            at = i + 1
    return [one for one in [*found, text[at:].strip()] if one]


def of_native(call):
    """[(name, keyword only, default)] of a method of pybind11, from the first line of its text."""
    line = call.__doc__.splitlines()[0]
    found, keyword = [], False
    for one in parts(line[line.index("(") + 1:line.rindex(") ->")]):
        if one == "*":
            keyword = True
            continue
        name, _, rest = one.partition(":")
        default = re.search(r" = (.*)$", rest)
        found.append((name, keyword, ast.literal_eval(default[1]) if default else inspect.Parameter.empty))
    return found


def of_runtime(call):
    if not inspect.isfunction(call) and not inspect.ismethod(call):
        return of_native(call)
    return [(p.name, p.kind in (p.KEYWORD_ONLY, p.VAR_KEYWORD), p.default)
            for p in inspect.signature(call).parameters.values() if p.kind != p.VAR_POSITIONAL]


def of_stub(node):
    plain, empty = node.args.posonlyargs + node.args.args, inspect.Parameter.empty
    defaults = [empty] * (len(plain) - len(node.args.defaults)) + [ast.literal_eval(d) for d in node.args.defaults]
    found = [(a.arg, False, d) for a, d in zip(plain, defaults)]
    found += [(a.arg, True, empty if d is None else ast.literal_eval(d))
              for a, d in zip(node.args.kwonlyargs, node.args.kw_defaults)]
    return found + ([(node.args.kwarg.arg, True, empty)] if node.args.kwarg else [])


def test_names_of_the_module():
    older = {node.target.id for node in TREE.body if isinstance(node, ast.AnnAssign) and node.target.id[0] != "_"}
    assert older == set(pymmc._OLDER_NAMES)
    assert set(pymmc.__all__) == set(CLASSES) | set(FUNCTIONS)
    for name, node in FUNCTIONS.items():
        assert of_stub(node) == of_runtime(getattr(pymmc, name)), name
    assert [(c.name, c.value) for c in pymmc.Code] == [
        (m.targets[0].id, m.value.value) for m in CLASSES["Code"].body if isinstance(m, ast.Assign)]
    assert [(r.name, r.value) for r in pymmc.Recovery] == [
        (m.targets[0].id, m.value.value) for m in CLASSES["Recovery"].body if isinstance(m, ast.Assign)]


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_members(name):
    kind, stub = getattr(pymmc, name), members(CLASSES[name])
    assert [base.id for base in CLASSES[name].bases if isinstance(base, ast.Name) and base.id in CLASSES] == [
        base.__name__ for base in kind.__bases__ if base.__name__ in CLASSES and base.__name__ != name]
    foreign = set().union(*(dir(base) for base in kind.__mro__ if base.__module__.split(".")[0] != "pymmc"), PLAIN)
    own = {one for one in dir(kind) if one not in foreign and one[0] != "_"}
    assert own <= set(stub), f"not in the stub: {sorted(own - set(stub))}"
    for member, node in stub.items():
        there = inspect.getattr_static(kind, member, None)
        if isinstance(node, ast.AnnAssign):  # set by the constructor
            assert not isinstance(there, property), f"{name}.{member} cannot be set"
        elif "property" in decorators(node):
            assert isinstance(there, property) and there.fset is None, f"{name}.{member} is no read-only property"
        elif isinstance(node, ast.Assign) or member in PLAIN:
            continue
        else:
            assert ("staticmethod" in decorators(node)) == isinstance(there, staticmethod), f"{name}.{member}"
            call = getattr(kind, member)
            assert isinstance(node, ast.AsyncFunctionDef) == inspect.iscoroutinefunction(call), f"{name}.{member}"
            expected = of_stub(node)[1 if "classmethod" in decorators(node) else 0:]
            assert expected == of_runtime(call), f"{name}.{member}"
            native = not inspect.isfunction(call) and not inspect.ismethod(call)  # the first line is the signature
            said = "".join((call.__doc__ or "").splitlines()[native:]).strip()
            assert said or member[0] == "_", f"{name}.{member} has no text"


@pytest.mark.parametrize("name", list(WITH_OPTIONS))
def test_options(name):
    with pytest.raises(TypeError) as refused:
        getattr(pymmc, name)(WITH_OPTIONS[name], no_such_option=1)
    known = str(refused.value).split("known are ")[1].split(", ")
    (stub,) = (one for one in CLASSES[name].body if isinstance(one, ast.FunctionDef) and one.name == "__init__")
    assert sorted(known) == sorted(a.arg for a in stub.args.kwonlyargs)
    said = inspect.getdoc(getattr(pymmc, name)) + (inspect.getdoc(pymmc.TransferEngine.start)
                                                   if name == "TransferEngine" else "")
    assert [one for one in known if not re.search(rf"\b{one}\b", said)] == []  # the docstring names them all
