"""What decides a teacher's answers: its function, and how the answers are stored.

Functions and classes of layers are known by their names. Where their code was edited,
:func:`~distill_lib.teacher.cached_signals` sees it in the answers to the first few rows.
"""

import hashlib
import json
import sys
import warnings
from functools import partial

import keras

# What does not change an answer in inference mode.
IRRELEVANT = {"build_config", "compile_config", "trainable"}


def teacher_checksum(teacher):
    """The SHA-256 of a teacher's architecture and weights.

    ``ValueError`` for a model that Keras cannot describe (``get_config``).
    """
    try:
        with warnings.catch_warnings():  # of lambdas that could not be loaded: nothing is
            warnings.simplefilter("ignore", UserWarning)
            config = keras.saving.serialize_keras_object(teacher)
        described = json.dumps(_relevant(config), sort_keys=True)
    except (NotImplementedError, TypeError, ValueError) as error:
        rule = "describe itself by get_config, or a changed teacher could not be noticed"
        raise ValueError(f"teacher must {rule}, got {teacher.name!r}: {error}") from error
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
    return {"function": [module.__name__, own_name], "arguments": arguments}


def _relevant(config):
    """The configuration without what does not matter, and without the code of lambdas."""
    if isinstance(config, (list, tuple)):
        return [_relevant(one) for one in config]
    if not isinstance(config, dict):
        return config
    if config.get("class_name") == "__lambda__":  # its bytes name files and lines
        return "lambda"
    return {key: _relevant(one) for key, one in config.items() if key not in IRRELEVANT}
