"""What decides a teacher's answers, as checksums: its function, and how they are stored.

A checksum of weights alone would not notice another activation, a rescaling layer, or a layer
whose code was edited. Bytecode stands for code here: comments do not count, but another
version of Python counts as a change of layers and functions that are not Keras's own.
"""

import hashlib
import inspect
import json
import sys
from functools import partial
from types import CodeType, FunctionType

import keras
import numpy as np

# Their versions are recorded, or belong to the format of the file.
KNOWN_PACKAGES = {"builtins", "distill_lib", "keras", "numpy", "scipy", "tensorflow"}
# What does not change an answer in inference mode.
IRRELEVANT = {"build_config", "compile_config", "trainable"}


def teacher_checksum(teacher):
    """The SHA-256 of architecture, code of layers that are not Keras's own, and weights.

    Raises:
        ValueError: a model that Keras cannot describe (``get_config``).
    """
    try:
        config = keras.saving.serialize_keras_object(teacher)
    except (NotImplementedError, TypeError, ValueError) as error:
        rule = "describe itself by get_config, or a changed teacher could not be noticed"
        raise ValueError(f"teacher must {rule}, got {teacher.name!r}: {error}") from error
    digest = hashlib.sha256()
    digest.update(json.dumps(_relevant(config), sort_keys=True, default=repr).encode())
    for layer in teacher._flatten_layers():
        digest.update(repr(_code_of_layer(layer)).encode())
    for weight in teacher.weights:
        array = weight.numpy()
        digest.update(repr((array.dtype.str, array.shape)).encode() + array.tobytes())
    return digest.hexdigest()


def function_description(name, function):
    """What identifies a function, or a ``functools.partial`` of one, for ``json``.

    Raises:
        ValueError: with ``name``, for a function without a name of its own (a lambda, one
            defined inside another function, an object that is called) and for arguments
            that are neither numbers nor strings.
    """
    rule = f"{name} must be a module-level function or a functools.partial of one"
    given = function if isinstance(function, partial) else partial(function)
    inner = given.func
    qualified = getattr(inner, "__qualname__", "<object>")
    module = sys.modules.get(getattr(inner, "__module__", None))
    if not isinstance(inner, FunctionType) or getattr(module, qualified, None) is not inner:
        raise ValueError(f"{rule}, so that another one can be noticed, got {function!r}")
    try:
        arguments = json.loads(json.dumps([given.args, given.keywords], sort_keys=True))
    except TypeError as error:
        raise ValueError(f"{rule}, with numbers and strings, got {function!r}") from error
    described = {"function": f"{module.__name__}.{qualified}", "arguments": arguments}
    if not _is_known(inner.__module__):
        code = hashlib.sha256(repr(_code_of(inner, set())).encode())
        described["code"] = code.hexdigest()
    return described


def _relevant(config):
    """The configuration without what does not matter; lambdas are compared by their code."""
    if isinstance(config, (list, tuple)):
        return [_relevant(one) for one in config]
    if not isinstance(config, dict):
        return config
    if config.get("class_name") == "__lambda__":
        return "lambda"
    return {key: _relevant(one) for key, one in config.items() if key not in IRRELEVANT}


def _code_of_layer(layer):
    """The code of a layer's own classes, and of the functions among its attributes."""
    classes = [one for one in type(layer).__mro__ if not _is_known(one.__module__)]
    functions = [value for one in classes for value in vars(one).values()]
    functions += vars(layer).values()
    functions = [_unwrapped(one) for one in functions]
    found = [one for one in functions if isinstance(one, FunctionType)]
    return [_code_of(one, set()) for one in found if not _is_known(one.__module__)]


def _unwrapped(function):
    for attribute in ("__func__", "fget", "func"):  # static methods, properties, partials
        function = getattr(function, attribute, function)
    return function


def _code_of(function, seen):
    """Bytecode, default values, and what it reads from outside: closure and global names."""
    seen.add(function)
    outside = inspect.getclosurevars(function)
    values = {**outside.globals, **outside.nonlocals}
    facts = [(name, _fact(value, seen)) for name, value in sorted(values.items())]
    defaults = _fact([function.__defaults__, function.__kwdefaults__], seen)
    return _facts_of_code(function.__code__), defaults, facts


def _facts_of_code(code):
    constants = [
        _facts_of_code(one) if isinstance(one, CodeType) else repr(one)
        for one in code.co_consts
    ]
    return code.co_code.hex(), code.co_names, code.co_varnames, constants


def _fact(value, seen):
    """A description of a value that is the same in every process: never an address."""
    if isinstance(value, FunctionType) and not _is_known(value.__module__):
        return value.__qualname__ if value in seen else _code_of(value, seen)
    if isinstance(value, (list, tuple)):
        return [_fact(one, seen) for one in value]
    if isinstance(value, np.ndarray):
        return hashlib.sha256(repr((value.dtype, value.tolist())).encode()).hexdigest()
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
        return repr(value)
    return getattr(value, "__qualname__", type(value).__qualname__)


def _is_known(module):
    return (module or "").split(".")[0] in KNOWN_PACKAGES
