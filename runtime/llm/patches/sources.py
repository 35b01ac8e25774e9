"""Which code of transformers a patch stands for: the source of what it replaces, whatever version that came with.

A version's number says little: most versions leave a layer as it was, and one that changes it keeps its name. Comments,
docstrings and layout do not count. What is not known by its source stays as it is.
"""

import ast
import hashlib
import inspect
import textwrap
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

_SAYS_NOTHING = {"__init__", "extra_repr"}
"""Methods that do not compute; what `__init__` made is there to be looked at."""


def source_key(*computations: type | Callable[..., Any]) -> str:
    """16 hex digits of what these classes and functions compute, in this order; "" where there is no source to read."""
    return _key_of(computations)


@cache
def _key_of(computations: tuple[Any, ...]) -> str:
    digest = hashlib.sha256()
    try:
        for function in (function for each in computations for function in _functions(each)):
            digest.update(_normal_form(function).encode())
    except OSError:
        return ""
    return digest.hexdigest()[:16]


def _functions(computation: type | Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    if not isinstance(computation, type):
        yield inspect.unwrap(computation)
        return
    for name, member in vars(computation).items():
        if inspect.isfunction(member) and name not in _SAYS_NOTHING:
            method = inspect.unwrap(member)
            if method.__module__ == computation.__module__:  # and not what a decorator of the class has added
                yield method


def _normal_form(function: Callable[..., Any]) -> str:
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    assert isinstance(definition, ast.FunctionDef)
    definition.decorator_list = []  # documentation, and kernels of others that nobody switched on
    if ast.get_docstring(definition) is not None:
        del definition.body[0]
    return ast.unparse(definition)
