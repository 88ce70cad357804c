"""A callback that stops a training whose loss is no number any more, and says why."""

import keras
import numpy as np
import tensorflow as tf


class Watch(keras.callbacks.Callback):
    """Raise ``ValueError`` when the loss becomes nan or infinite, or a monitor has no value.

    Args:
        x, y: What ``fit`` was given; they are searched only after something went wrong.
        callbacks: The other callbacks, whose ``monitor`` must be a name that is logged.
    """

    def __init__(self, x, y, callbacks):
        super().__init__()
        self.x, self.y, self.callbacks = x, y, callbacks
        self.step = 0

    def on_train_batch_end(self, batch, logs=None):
        """Look at the loss, which is the mean since the epoch began."""
        self.step += 1
        if not np.isfinite(loss := float(logs["loss"])):
            where = where_not_finite(self.x, self.y, batch + 1)
            knobs = {name: self.model.get_knobs(name) for name in self.model.term_names}
            where = where or (
                "the signals given are finite, so look at the teacher's answers, at an "
                f"augmentation, and at the learning rate; knobs: {knobs}"
            )
            raise ValueError(f"loss must stay finite, got {loss} at step {self.step}: {where}")

    def on_epoch_end(self, epoch, logs=None):
        """Look for the values that other callbacks wait for."""
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


def where_not_finite(x, y, batches):
    """Name the first signal and row that is nan or infinite, or a label that is negative.

    Args:
        x: An array, a dictionary of arrays, or a data set that yields ``(x, y, ...)``.
        y: Labels, or a dictionary of signals.
        batches: How many batches of a data set are searched.

    Returns:
        A sentence such as ``"teacher_logits is nan in row 3"``, or ``None``.
    """
    if not isinstance(x, tf.data.Dataset):
        return _first_fault({"x": x, "y": y})
    for number, batch in enumerate(x.take(batches)):
        parts = batch if isinstance(batch, tuple) else (batch,)
        if fault := _first_fault(dict(zip(("x", "y", "sample_weight"), parts, strict=False))):
            return f"{fault} of batch {number}"
    return None


def _first_fault(parts):
    for name, array in _named_arrays(parts):
        array = np.asarray(array)
        if array.dtype.kind != "f":
            continue
        # A teacher's logit of minus infinity means "never", and is no fault.
        bad = np.isnan(array) | (np.isinf(array) & ~((array < 0) & ("teacher_" in name)))
        if bad.any():
            row = int(np.argwhere(bad)[0, 0])
            return f"{name} is {array[bad].flat[0]} in row {row}"
    return None


def _named_arrays(parts, prefix=""):
    """Every array with its own name; of nested dictionaries, the names joined by a slash."""
    for name, value in parts.items():
        full = name if name not in ("x", "y") and not prefix else prefix + name
        if isinstance(value, dict):
            yield from _named_arrays(value, "" if full == "y" else f"{full}/")
        elif value is not None and hasattr(value, "shape"):
            yield full, value
