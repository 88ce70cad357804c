"""What decides a teacher's answers: its function, and how the answers are stored.

A checksum of weights alone would not notice another activation, a rescaling layer, or a layer
whose code was edited. The code of layers and functions that are not Keras's own is compared as
bytecode: comments do not count, another version of Python does. What a function calls in turn
is not compared; :func:`~distill_lib.teacher.cached_signals` asks again for a few rows instead.
"""

import hashlib
import json
import sys
import warnings
from functools import partial
from types import CodeType, FunctionType

import keras

# Keras's version is recorded, this library's is the format of the file.
KNOWN_PACKAGES = {"builtins", "distill_lib", "keras", "tensorflow"}
# What does not change an answer in inference mode.
IRRELEVANT = {"build_config", "compile_config", "trainable"}


def teacher_checksum(teacher):
    """The SHA-256 of architecture, code of layers that are not Keras's own, and weights.

    ``ValueError`` for a model that Keras cannot describe (``get_config``).
    """
    try:
        with warnings.catch_warnings():  # of lambdas that could not be loaded: nothing is
            warnings.simplefilter("ignore", UserWarning)
            config = keras.saving.serialize_keras_object(teacher)
    except (NotImplementedError, TypeError, ValueError) as error:
        rule = "describe itself by get_config, or a changed teacher could not be noticed"
        raise ValueError(f"teacher must {rule}, got {teacher.name!r}: {error}") from error
    code = [_code_of_layer(layer) for layer in teacher._flatten_layers()]
    described = json.dumps([_relevant(config), code], sort_keys=True, default=repr)
    digest = hashlib.sha256(described.encode())
    for weight in teacher.weights:
        array = weight.numpy()
        digest.update(repr((array.dtype.str, array.shape)).encode() + array.tobytes())
    return digest.hexdigest()


def function_description(name, function):
    """What identifies a function, or a ``functools.partial`` of one, as JSON can hold it.

    ``ValueError`` with ``name`` for a function without a name of its own (a lambda, one that
    was defined inside another, an object) and for arguments but numbers and strings.
    """
    rule = f"{name} must be a module-level function or a functools.partial of one"
    given = function if isinstance(function, partial) else partial(function)
    own_name = getattr(given.func, "__qualname__", "")
    module = sys.modules.get(getattr(given.func, "__module__", None))
    if getattr(module, own_name, None) is not given.func:
        raise ValueError(f"{rule}: another one must be noticed, got {function!r}")
    try:
        arguments = json.loads(json.dumps([given.args, given.keywords]))
    except TypeError as error:
        raise ValueError(f"{rule}, with numbers and strings, got {function!r}") from error
    code = hashlib.sha256(repr(_code_of(given.func)).encode()).hexdigest()
    return {"function": [module.__name__, own_name], "arguments": arguments, "code": code}


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
    classes = [one for one in type(layer).__mro__ if not _is_known(one)]
    attributes = [value for one in classes for value in vars(one).values()]
    found = [_code_of(one) for one in [*attributes, *vars(layer).values()]]
    return [code for code in found if code is not None]


def _code_of(function):
    """Bytecode, defaults and closure of a function, ``None`` of what is Keras's or is none."""
    for attribute in ("__func__", "fget", "func"):  # static methods, properties, partials
        function = getattr(function, attribute, function)
    if not isinstance(function, FunctionType) or _is_known(function):
        return None
    closure = [cell.cell_contents for cell in function.__closure__ or ()]
    defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    values = defaults + closure
    return _code_facts(function.__code__), [_code_of(one) or _constant(one) for one in values]


def _code_facts(code):
    nested = [one for one in code.co_consts if isinstance(one, CodeType)]
    constants = [_constant(one) for one in code.co_consts]
    return code.co_code.hex(), code.co_names, constants, [_code_facts(one) for one in nested]


def _constant(value):
    """A description that is the same in every process: no address, no order of a set."""
    if isinstance(value, (frozenset, tuple)):
        return sorted(map(repr, value)) if isinstance(value, frozenset) else repr(value)
    is_plain = isinstance(value, (bool, int, float, complex, str, bytes, type(None)))
    return repr(value) if is_plain else type(value).__qualname__


def _is_known(thing):
    return (thing.__module__ or "").split(".")[0] in KNOWN_PACKAGES
