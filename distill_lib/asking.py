"""One pass of a teacher over inputs: its answers by name, checked, and what decided them."""

import keras
import numpy as np
import tensorflow as tf

from distill_lib.features import with_outputs
from distill_lib.fingerprint import teacher_checksum
from distill_lib.inputs import RowsChecksum, checksum_of, input_batches
from distill_lib.signal_checks import check_class_names, check_not_probabilities, check_values
from distill_lib.stored import row_count


def ask(teacher, x, layers, batch_size, class_names, verbose):
    """The answers ``{"logits": ..., "features/<name>": ...}`` and a dict about them.

    The arguments and errors are those of :func:`~distill_lib.teacher.compute_signals`.
    """
    answer, checksum, found = answers_of_batch(teacher, layers), RowsChecksum(), []
    is_dataset = isinstance(x, tf.data.Dataset)
    batch_count = None if is_dataset else -(-row_count("x", x) // batch_size)
    progress = keras.utils.Progbar(batch_count, verbose=verbose, unit_name="batch")
    for batch in input_batches(x, batch_size, teacher):
        checksum.update(batch)
        found.append(answer(batch))
        progress.add(1)
    if not found:
        raise ValueError("x must hold one row or more, got none")
    about = about_teacher(teacher, layers) | {"data": checksum.hexdigest()}
    if is_dataset and about["data"] != checksum_of(x, batch_size, teacher):
        rule = "x must give the same rows in the same order in every pass"
        raise ValueError(f"{rule}, got a data set that shuffles, or draws random numbers")
    answers = {name: np.concatenate([one[name] for one in found]) for name in found[0]}
    _check_answers(answers)
    if class_names is not None:
        class_count = np.shape(answers.get("logits"))[-1:]
        names = check_class_names("class_names", class_names, *class_count)
        about["class_names"] = names
    return answers, about


def about_teacher(teacher, layers):
    """What decides the answers beside the inputs, as it is written into a file."""
    return {
        "keras": keras.__version__,
        "teacher": teacher_checksum(teacher),
        "layers": _paths_by_name(layers),
    }


def answers_of_batch(teacher, layers):
    """A function of a batch of inputs to ``{"logits": ..., "features/<name>": ...}``."""
    paths = _paths_by_name(layers)
    is_functional = bool(getattr(teacher, "inputs", None))
    output = teacher.output if is_functional else dict.fromkeys(paths.values())
    keys = output.keys() if isinstance(output, dict) else set()
    inner = {f"features/{name}": path for name, path in paths.items() if path not in keys}
    model = with_outputs(teacher, inner) if inner else teacher

    def answer(batch):
        found = _by_name(teacher, model.predict_on_batch(batch))
        if not paths and "logits" not in found:
            return {f"features/{name}": array for name, array in found.items()}
        for name, path in paths.items():
            if path in keys:
                found[f"features/{name}"] = _entry(teacher, found, path)
        wanted = {"logits", *(f"features/{name}" for name in paths)}
        return {name: array for name, array in found.items() if name in wanted}

    return answer


def _paths_by_name(layers):
    if layers is None or isinstance(layers, dict):
        return dict(layers or {})
    paths = [layers] if isinstance(layers, str) else list(layers)
    return {path: path for path in paths}


def _by_name(teacher, answer):
    if isinstance(answer, (list, tuple)):
        rule = "teacher must answer with one array or a dict of arrays"
        raise ValueError(f"{rule}, got {len(answer)} without names from {teacher.name!r}")
    return dict(answer) if isinstance(answer, dict) else {"logits": answer}


def _entry(teacher, found, path):
    if path not in found:
        rule = "layers of a teacher that is not functional must be keys of its answer"
        raise ValueError(f"{rule}, {sorted(found)} of {teacher.name!r}, got {path!r}")
    return found[path]


def _check_answers(answers):
    for name, array in answers.items():
        is_logits = name == "logits"
        check_values(f"teacher_{name}", array, allow_minus_infinity=is_logits)
    if "logits" in answers:
        check_not_probabilities("teacher_logits", answers["logits"])
