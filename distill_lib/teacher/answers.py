"""A teacher's answers, computed once, stored, and refused when they are stale.

The teacher never changes while a student learns, so running it again in every epoch gains
nothing. (With augmentation the inputs change in every epoch; stored answers would be wrong.)
"""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from distill_lib import data
from distill_lib.signals.checks import check_class_names
from distill_lib.signals.forms import dense
from distill_lib.signals.stored import StoredSignal, as_stored
from distill_lib.teacher.asking import answering, ask, checksum_of, input_batches, paths_by_name
from distill_lib.teacher.cache_file import read_file, write_file
from distill_lib.teacher.fingerprint import function_description, teacher_checksum

PROBE_COUNT = 8  # rows that the teacher answers again when a file is read


class TeacherAnswers(NamedTuple):
    """What a teacher answered to n inputs, row by row.

    Attributes:
        logits: an array or a stored signal ``(n, ..., classes)``; ``None`` if the teacher
            answers with a dict that has no entry ``"logits"``.
        features: an array ``(n, ...)`` of the one layer asked for, a dict of arrays by name if
            several were, else ``None``.
        about: a dict of what decided the answers: checksums, layers, names of the classes.
    """

    logits: np.ndarray | StoredSignal | None
    features: np.ndarray | dict | None
    about: dict


def compute_signals(
    teacher, x, *, layers=None, batch_size=256, store=dense, class_names=None, verbose=0
):
    """Run the teacher once over ``x``, in inference mode (no dropout, stored statistics).

    Args:
        teacher: ``keras.Model`` from inputs to logits, or to a dict of answers; unchanged.
        x: array ``(n, ...)`` of inputs; a dict or list of them; or a ``tf.data.Dataset`` of
            inputs or ``(inputs, ...)``, of examples or of batches, the same in every pass.
        layers: the layer (or path, or key of the answer) whose output is stored as features;
            a list of them, or a dict ``{name: path}``, for several. ``None``: no features, or
            all entries of an answer that is a dict without ``"logits"``.
        batch_size: inputs in a forward pass, if ``x`` is not batched already.
        store: function of the logits: :func:`~distill_lib.signals.forms.dense`,
            ``partial(top_k, k=3)``, ``partial(sample, draws=32)``. Features are dense.
        class_names: names of the classes in the order of the logits, to be recorded.
        verbose: 1 shows a progress bar, 0 nothing.

    Raises:
        ValueError: an unknown layer; answers with nan or infinity (minus infinity is a logit
            of "never"), with the row; probabilities in place of logits; a data set that
            shuffles or never ends; or whatever ``store`` refuses.
    """
    answers, about = _asked(teacher, x, layers, batch_size, class_names, verbose)
    arrays, form = _stored(answers, store)
    return _unpacked(arrays, form, about)


def cached_signals(
    path, *, teacher, x, layers=None, batch_size=256, store=dense, class_names=None, verbose=0
):
    """Read the answers at ``path``; if there is no such file, compute and write them.

    The other arguments are those of :func:`compute_signals`; ``store`` must be a module-level
    function or a ``functools.partial`` of one with numbers and strings. The file is written
    completely or not at all, and never overwritten. The code of layers and functions is not
    compared; instead the teacher answers the first 8 rows again, and no number may differ by
    more than 1 % of the largest. What it does to other rows alone is not noticed.

    Raises:
        ValueError: ``path`` is no ``.npz`` in an existing folder, or holds anything else; or
            it is stale, with what has changed: the teacher's architecture, weights or answers,
            the inputs, layers, store, class names, or the version of Keras.
    """
    path = Path(path)
    if path.suffix != ".npz" or not path.parent.is_dir():
        raise ValueError(f"path must be an .npz file in an existing folder, got {path}")
    own = {"store": function_description("store", store), "teacher": teacher_checksum(teacher)}
    if not path.exists():
        answers, about = _asked(teacher, x, layers, batch_size, class_names, verbose)
        own["teacher"] = teacher_checksum(teacher)  # of a subclass, which has weights only now
        write_file(path, _stored(answers, store)[0] | _probe(answers, store), own | about)
    arrays, held = read_file(path)
    about = own | _about(checksum_of(teacher, x, batch_size), layers, class_names)
    changed = [name for name in about if held.get(name) != about[name]]
    changed = changed or _changed_answers(arrays, teacher, x, layers, store)
    if changed:
        then = f" (then {held['keras']})" if "keras" in changed else ""
        raise ValueError(
            f"path must hold the answers of this teacher to these inputs, but {path} is stale: "
            f"changed since it was written: {' and '.join(changed)}{then}. "
            "Delete it to compute anew."
        )
    # The first rows, stored again, show how the stored arrays are to be read.
    form = store(arrays["probe/logits"]) if "probe/logits" in arrays else None
    return _unpacked(arrays, form, held)


def load_teacher_logits(part):
    """Logits ``(n, 10)`` of the shipped teacher on the shipped Fashion-MNIST images.

    ``part`` is ``"train"``, ``"validation"`` or ``"test"``, with the rows of
    :func:`distill_lib.data.load_fashion_mnist`. They are float32, and were rounded to float16
    when they were stored.
    """
    with np.load(data.asset("teacher_logits.npz"), allow_pickle=False) as arrays:
        if part not in arrays:
            raise ValueError(f"part must be one of {sorted(arrays)}, got {part!r}")
        return arrays[part].astype("float32")


def _asked(teacher, x, layers, batch_size, class_names, verbose):
    """All answers by name, and what decided them."""
    answers, checksum = ask(teacher, x, layers, batch_size, verbose)
    class_count = answers["logits"].shape[-1] if "logits" in answers else 0
    return answers, _about(checksum, layers, class_names, class_count)


def _about(checksum, layers, class_names, class_count=None):
    """What decides the answers beside teacher and store."""
    layers = layers if isinstance(layers, str) else paths_by_name(layers)
    about = {"data": checksum, "layers": layers, "keras": keras.__version__}
    if class_names is not None:
        about["class_names"] = check_class_names("class_names", class_names, class_count)
    return about


def _stored(answers, store):
    """Answers as arrays for a file, and what ``store`` made of the logits."""
    arrays = {name: dense(array) for name, array in answers.items() if name != "logits"}
    if "logits" not in answers:
        return arrays, None
    logits = store(answers["logits"])
    count = len(answers["logits"])
    if len(logits) != count:
        raise ValueError(f"store must give {count} rows for as many, got {len(logits)}")
    parts = enumerate(as_stored(logits).arrays)
    return arrays | {f"logits/{number}": array for number, array in parts}, logits


def _unpacked(arrays, form, about):
    """The arrays of a file as ``TeacherAnswers``, the logits in a form such as ``form``."""
    parts = tuple(_below("logits/", arrays).values())
    logits = parts[0] if parts else None
    if isinstance(form, StoredSignal):
        logits = replace(form, arrays=parts)
    features = _below("features/", arrays)
    if isinstance(about["layers"], str):
        features = features[about["layers"]]
    return TeacherAnswers(logits, features if len(features) else None, about)


def _below(prefix, arrays):
    found = {name: array for name, array in arrays.items() if name.startswith(prefix)}
    return {name.removeprefix(prefix): array for name, array in found.items()}


def _probe(answers, store):
    """The first few rows of all answers, and what ``store`` makes of their logits."""
    rows = {name: array[:PROBE_COUNT] for name, array in answers.items()}
    stored, _ = _stored(rows, store)
    return {f"probe/{name}": array for name, array in (stored | rows).items()}


def _changed_answers(arrays, teacher, x, layers, store):
    """What has changed although all checksums are those of then: code that they do not see."""
    changed, probe = [], _below("probe/", arrays)
    batch = next(iter(input_batches(teacher, x, PROBE_COUNT)))
    rows = keras.tree.map_structure(lambda array: array[:PROBE_COUNT], batch)
    answers = answering(teacher, layers)(rows)
    if not all(_is_near(again, probe[name][: len(again)]) for name, again in answers.items()):
        changed.append("the teacher's answers")
    again = _probe({name: probe[name] for name in answers}, store)
    if not all(np.array_equal(array, arrays.get(name)) for name, array in again.items()):
        changed.append("store")
    return changed


def _is_near(again, then):
    """Whether answers are equal but for rounding, in which two machines differ."""
    tolerance = 0.01 * np.abs(then[np.isfinite(then)]).max(initial=0.0)
    return again.shape == then.shape and np.allclose(again, then, rtol=0.0, atol=tolerance)
