"""A teacher's answers, computed once, stored, and refused when they are stale.

The teacher never changes while a student learns, so running it again in every epoch gains
nothing. (With augmentation the inputs change in every epoch, and then stored answers are
wrong.) A file records what decided the answers: the teacher's function, the inputs, the
layers, the way of storing and the version of Keras. See :mod:`distill_lib.fingerprint`.
"""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from distill_lib import data
from distill_lib.asking import about_teacher, answers_of_batch, ask
from distill_lib.cache_file import read_file, write_file
from distill_lib.fingerprint import function_description
from distill_lib.inputs import checksum_of, first_rows
from distill_lib.signal_checks import check_class_names
from distill_lib.signals import StoredSignal, dense

PROBE_COUNT = 8  # rows that the teacher answers again whenever a file is read


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
            ``layers`` other than keys of that dict need a functional or sequential one.
        x: array ``(n, ...)`` of inputs; a dict or list of them; or a ``tf.data.Dataset`` of
            inputs or ``(inputs, ...)``, of examples or of batches, the same in every pass.
        layers: the layer (or path, or key of the answer) whose output is stored as features;
            a list of them, or a dict ``{name: path}``, for several. ``None``: no features, or
            all entries of an answer that is a dict without ``"logits"``.
        batch_size: inputs in a forward pass, if ``x`` is not batched already.
        store: function of the logits: :func:`~distill_lib.signals.dense`,
            ``partial(top_k, k=3)``, ``partial(sample, draws=32)``. Features are dense.
        class_names: names of the classes in the order of the logits, to be recorded.
        verbose: 1 shows a progress bar, 0 nothing.

    Raises:
        ValueError: an unknown layer; answers with nan or infinity (minus infinity is a logit
            of "never"), with the row; probabilities in place of logits; a data set that
            shuffles or never ends; or whatever ``store`` refuses.
    """
    answers, about = ask(teacher, x, layers, batch_size, class_names, verbose)
    return _stored(answers, store, layers, about)


def cached_signals(
    path,
    *,
    teacher,
    x,
    layers=None,
    batch_size=256,
    store=dense,
    class_names=None,
    verbose=0,
):
    """Read the answers at ``path``; if there is no such file, compute and write them.

    The other arguments are those of :func:`compute_signals`. ``store`` must be a module-level
    function or a ``functools.partial`` of one with numbers and strings. The file is written
    completely or not at all, and never overwritten. Reading it runs the teacher on the first
    eight inputs only, to see that it still gives the answers of then.

    Raises:
        ValueError: ``path`` is no ``.npz`` in an existing folder, or holds anything else; or
            it is stale, with what has changed: the teacher's function, the inputs, layers,
            store, class names, or the version of Keras, whose results may differ.
    """
    path = Path(path)
    if path.suffix != ".npz" or not path.parent.is_dir():
        raise ValueError(f"path must be an .npz file in an existing folder, got {path}")
    described = function_description("store", store)
    if not path.exists():
        answers, about = ask(teacher, x, layers, batch_size, class_names, verbose)
        stored = _stored(answers, store, layers, about | {"store": described})
        probe = {name: one[:PROBE_COUNT] for name, one in answers.items()}
        write_file(path, stored, probe)
    held = read_file(path)
    about = {**about_teacher(teacher, layers), "store": described}
    about["data"] = checksum_of(x, batch_size, teacher)
    if class_names is not None:
        about["class_names"] = check_class_names("class_names", class_names)
    changed = [name for name in about if held.about.get(name) != about[name]]
    if not changed and not _still_answers(teacher, x, layers, batch_size, held.probe):
        changed = ["the teacher's answers"]
    if changed:
        raise ValueError(
            f"path must hold the answers of this teacher to these inputs, but {path} is stale: "
            f"changed since it was written: {' and '.join(changed)}. Delete it to compute anew."
        )
    form = store(held.probe["logits"]) if held.logits else None
    logits = held.logits[0] if held.logits else None
    if isinstance(form, StoredSignal):
        logits = replace(form, arrays=held.logits)
    return TeacherAnswers(logits, held.features, held.about)


def load_teacher_logits(part):
    """Logits ``(n, 10)`` of the shipped teacher on the shipped Fashion-MNIST images.

    Args:
        part: ``"train"``, ``"validation"`` or ``"test"``, with the rows of
            :func:`distill_lib.data.load_fashion_mnist`.

    Returns:
        float32, rounded to float16 when they were stored.
    """
    with np.load(data.asset("teacher_logits.npz"), allow_pickle=False) as arrays:
        if part not in arrays:
            raise ValueError(f"part must be one of {sorted(arrays)}, got {part!r}")
        return arrays[part].astype("float32")


def _stored(answers, store, layers, about):
    """Answers by name as ``TeacherAnswers``, the logits in the form that ``store`` gives."""
    logits = answers.get("logits")
    if logits is not None:
        count, logits = len(logits), store(logits)
        if len(logits) != count:
            raise ValueError(f"store must give {count} rows for as many, got {len(logits)}")
    features = {
        name.removeprefix("features/"): dense(array)
        for name, array in answers.items()
        if name != "logits"
    }
    if isinstance(layers, str):
        features = features[layers]
    return TeacherAnswers(logits, features if len(features) else None, about)


def _still_answers(teacher, x, layers, batch_size, probe):
    """Whether the first rows are answered as then, up to the rounding of another machine."""
    rows = first_rows(x, PROBE_COUNT, batch_size, teacher)
    now = answers_of_batch(teacher, layers)(rows)
    for name, then in probe.items():
        size = np.abs(then[np.isfinite(then)]).max(initial=0.0)
        if not np.allclose(now[name], then, rtol=0.0, atol=0.01 * size, equal_nan=True):
            return False
    return True
