"""One pass of a teacher over its inputs, in any form: answers by name, and checksums."""

import hashlib

import keras
import numpy as np
import tensorflow as tf

from distill_lib.features import as_functional, outputs_by_name, with_outputs
from distill_lib.signals.checks import check_not_probabilities, check_values
from distill_lib.signals.stored import row_count


def ask(teacher, x, layers, batch_size, verbose):
    """All answers ``{"logits": ..., "features/<name>": ...}``, and the checksum of ``x``.

    The arguments and errors are those of :func:`~distill_lib.teacher.compute_signals`.
    """
    answer, checksum, found = answering(teacher, layers), RowsChecksum(), []
    is_dataset = isinstance(x, tf.data.Dataset)
    batch_count = None if is_dataset else -(-row_count("x", x) // batch_size)
    progress = keras.utils.Progbar(batch_count, verbose=verbose, unit_name="batch")
    for batch in input_batches(teacher, x, batch_size):
        checksum.update(batch)
        found.append(answer(batch))
        progress.add(1)
    if not found:
        raise ValueError("x must hold one row or more, got none")
    if is_dataset and checksum.hexdigest() != checksum_of(teacher, x, batch_size):
        rule = "x must give the same rows in the same order in every pass"
        raise ValueError(f"{rule}, got a data set that shuffles, or draws random numbers")
    answers = {name: np.concatenate([one[name] for one in found]) for name in found[0]}
    for name, array in answers.items():
        check_values(f"teacher_{name}", array, allow_minus_infinity=name == "logits")
    if "logits" in answers:
        check_not_probabilities("teacher_logits", answers["logits"])
    return answers, checksum.hexdigest()


def answering(teacher, layers):
    """A function of a batch of inputs to ``{"logits": ..., "features/<name>": ...}``."""
    paths = paths_by_name(layers)
    functional = as_functional(teacher)
    # Whether a path is a key of the answer can be known before only of a functional model.
    output = functional.output if functional else dict.fromkeys(paths.values())
    keys = output.keys() if isinstance(output, dict) else set()
    inner = {f"features/{name}": path for name, path in paths.items() if path not in keys}
    model = with_outputs(teacher, inner) if inner else teacher

    def answer(batch):
        found = outputs_by_name(teacher, model.predict_on_batch(batch))
        if "logits" not in found and not paths:
            return {f"features/{name}": array for name, array in found.items()}
        answers = {"logits": found["logits"]} if "logits" in found else {}
        for name, path in paths.items():
            key = path if path in keys else f"features/{name}"
            if key not in found:
                known = f"{teacher.name!r}, {sorted(found)}, as it is not functional"
                raise ValueError(f"layers must be keys of the answer of {known}, got {path!r}")
            answers[f"features/{name}"] = found[key]
        return answers

    return answer


def paths_by_name(layers):
    """The layers asked for as ``{name: path}``: one path, a list of them, or such a dict."""
    if isinstance(layers, dict):
        return layers
    paths = [layers] if isinstance(layers, str) else layers or []
    return {path: path for path in paths}


def input_batches(teacher, x, batch_size):
    """Batches of inputs, without labels, as NumPy arrays. A data set of single examples (with
    an axis less than the inputs of ``teacher``) is made one of batches.
    """
    if not isinstance(x, tf.data.Dataset):
        arrays = keras.tree.map_structure(np.asarray, x)
        for start in range(0, row_count("x", x), batch_size):
            rows = slice(start, start + batch_size)
            yield keras.tree.map_structure(lambda array, rows=rows: array[rows], arrays)
        return
    if x.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise ValueError("x must be a data set that ends, got one that repeats for ever")
    spec = x.element_spec[0] if isinstance(x.element_spec, tuple) else x.element_spec
    inputs = keras.tree.flatten(getattr(teacher, "inputs", None) or [])
    if inputs and keras.tree.flatten(spec)[0].shape.rank == len(inputs[0].shape) - 1:
        x = x.batch(batch_size)
    for element in x.as_numpy_iterator():
        yield element[0] if isinstance(element, tuple) else element


def checksum_of(teacher, x, batch_size):
    """The checksum of all inputs, in one pass, without asking the teacher."""
    checksum = RowsChecksum()
    for batch in input_batches(teacher, x, batch_size):
        checksum.update(batch)
    return checksum.hexdigest()


class RowsChecksum:
    """The SHA-256 of rows that come in batches; the sizes of the batches do not count."""

    def __init__(self):
        self._digests, self._row_kinds = {}, {}

    def update(self, inputs):
        """Add a batch: an array, or a dict or list of arrays."""
        for path, array in keras.tree.flatten_with_path(inputs):
            array = np.asarray(array)
            digest = self._digests.setdefault(str(path), hashlib.sha256())
            row_kind = repr((array.dtype.str, array.shape[1:]))
            if self._row_kinds.get(path) != row_kind:
                digest.update(row_kind.encode())
                self._row_kinds[path] = row_kind
            if array.dtype.kind in "OSU":  # strings
                digest.update("".join(f"{one!r}," for one in array.ravel()).encode())
            else:
                digest.update(array.tobytes())

    def hexdigest(self):
        """The checksum of all rows so far."""
        found = sorted((path, digest.hexdigest()) for path, digest in self._digests.items())
        return hashlib.sha256(repr(found).encode()).hexdigest()
