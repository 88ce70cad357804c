"""A callback that stops a training whose loss is no number any more, and says why."""

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from distill_lib import counting
from distill_lib.distiller import arguments, judged, objective

BATCH_SIZE = 256  # rows of arrays that are searched at once


class Watch(keras.callbacks.Callback):
    """Raise ``ValueError`` for a loss or weight that is not finite, or an unknown monitor.

    Args:
        data: ``(x, y, sample_weight)`` as ``fit`` was given them. They are searched only after
            something went wrong.
        validation_data: The same for ``validation_data``, or ``None``.
        callbacks: The other callbacks, whose ``monitor`` must be a name that is logged.
    """

    def __init__(self, data, validation_data, callbacks):
        super().__init__()
        self.data, self.validation_data, self.callbacks = data, validation_data, callbacks
        self.step = 0

    def on_train_batch_end(self, batch, logs=None):
        """Look at the loss, which is the mean since the epoch began."""
        self.step += 1
        loss = (logs or {}).get("loss")
        if loss is not None and not np.isfinite(float(loss)):
            where = self._where(self.data)
            raise ValueError(
                f"loss must stay finite, got {float(loss)} at step {self.step}: {where}"
            )

    def on_epoch_end(self, epoch, logs=None):
        """Look at the weights, which callbacks may save now, and at what these wait for."""
        logs = logs or {}
        for weight in self.model.trainable_variables:
            if not bool(ops.all(ops.isfinite(weight))):
                raise ValueError(
                    f"weights must stay finite, got nan or infinity in {weight.path!r} after "
                    f"step {self.step}: {self._where(self.data)}"
                )
        if not np.isfinite(loss := float(logs.get("val_loss", 0.0))):
            where = self._where(self.validation_data)
            raise ValueError(
                f"val_loss must stay finite, got {loss} after step {self.step}: {where}"
            )
        self._check_monitors(logs)

    def _check_monitors(self, logs):
        has_validation = any(name.startswith("val_") for name in logs)
        for callback in self.callbacks:
            monitor = getattr(callback, "monitor", None)
            if not isinstance(monitor, str) or monitor in logs:
                continue
            if has_validation or not monitor.startswith("val_"):
                remedy = "what keras.distillation calls total_loss is loss here"
                raise ValueError(
                    f"monitor must be one of {sorted(logs)}, got {monitor!r} ({remedy})"
                )

    def _where(self, data):
        batches = batches_of(data)
        if batches is None:
            return f"data of the type {type(data[0]).__name__} cannot be searched for the cause"
        if fault := first_fault(self.model, batches):
            return fault
        knobs = {name: self.model.get_knobs(name) for name in self.model.term_names}
        return (
            "all that was given is finite and the labels are classes, so look at the learning "
            f"rate, the knobs, {knobs}, and at what augmentations do"
        )


def batches_of(data):
    """Return an iterator of ``(place, x, y, sample_weight)``, or ``None`` for a generator.

    ``place`` is a function of the number of a row in its batch, a phrase for an error.
    """
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    if isinstance(x, tf.data.Dataset):
        # An endless data set would be searched for ever.
        return _of_data_set(x.take(1000) if x.cardinality() < 0 else x)
    if isinstance(x, keras.utils.PyDataset):
        return _of_data_set(x[number] for number in range(len(x)))
    if all(hasattr(one, "shape") for one in keras.tree.flatten(x)):
        return _of_arrays((x, y, sample_weight))
    return None


def first_fault(distiller, batches):
    """Name the first signal and row that is nan or infinite, or a label that is no class.

    What does not count is passed over, except in x, which a batch normalisation may spread.
    The answers of teachers that are asked in every step are looked at as well.

    Args:
        distiller: A ``Distiller``; its student tells the classes.
        batches: What :func:`batches_of` returns.

    Returns:
        A sentence such as ``"teacher_logits is nan in row 3"``, or ``None``.
    """
    for place, x, y, sample_weight in batches:
        given = arguments.signals_in(y, distiller.distillation_losses)
        answers = judged.answers_by_name(distiller.student(x, training=False))
        signals = objective.common_signals(distiller.loss, given, answers)
        weight = judged.weight_of(sample_weight)
        counted = counting.both(signals.get("mask"), counting.has_weight(weight))
        named = {**_by_path("x", x), **_by_path("sample_weight", weight)}
        for name, one in given.items():
            named |= _by_path(name, one)
        for teacher in distiller.live_teachers(given):
            answer, _ = teacher(x, training=False)
            for name, one in judged.answers_by_name(answer).items():
                named[f"teacher_{name} of {teacher.model.name!r}"] = one
        for name, values in named.items():
            bad = _is_bad(name, np.asarray(values), counted, answers.get("logits"))
            if bad.any():
                index = tuple(np.argwhere(bad)[0])
                return f"{name} is {np.asarray(values)[index]} in {place(index[0])}"
    return None


def _is_bad(name, values, counted, logits):
    """Where the values of one signal are not finite, or are labels that are no classes."""
    bad = np.zeros(values.shape, bool)
    if values.dtype.kind == "f":
        # A teacher's logit of minus infinity means "never", and is no fault.
        bad = np.isnan(values) | (np.isinf(values) & ~(("teacher_" in name) & (values < 0)))
    if name in ("labels", "labels/logits") and logits is not None:
        classes = logits.shape[-1]
        is_number = values.ndim < len(logits.shape) or values.shape[-1] == 1
        if classes > 1 and is_number:
            bad = bad | ~((values >= 0) & (values < classes))
    if counted is None or name.split("/")[0] in ("x", "sample_weight"):
        return bad
    axes = values.ndim if name.startswith("labels") else max(values.ndim - 1, 1)
    mask = np.asarray(counting.with_axes(counted, axes))
    if mask.shape != values.shape[: mask.ndim]:  # a map of another size
        mask = mask.reshape(len(mask), -1).any(axis=1)
    return bad & mask.reshape(mask.shape + (1,) * (values.ndim - mask.ndim))


def _by_path(name, values):
    """Every array with its name; those inside of dictionaries and lists by their path."""
    found = {}
    for path, one in keras.tree.flatten_with_path(values):
        if one is not None:
            found["/".join([name, *map(str, path)])] = one
    return found


def _of_data_set(batches):
    for number, batch in enumerate(batches):
        parts = keras.utils.unpack_x_y_sample_weight(batch)
        yield (lambda row, number=number: f"row {row} of batch {number}"), *parts


def _of_arrays(parts):
    count = len(keras.tree.flatten(parts[0])[0])
    for start in range(0, count, BATCH_SIZE):
        yield (lambda row, start=start: f"row {start + row}"), *_rows(parts, start)


def _rows(parts, start):
    def some(one):
        return None if one is None else one[start : start + BATCH_SIZE]

    return keras.tree.map_structure(some, parts)
