"""A teacher's answers, computed once, stored, and refused when they are stale.

The teacher never changes while a student learns, so running it again every epoch buys
nothing (with augmentation the inputs change, and then a store is wrong). A file records the
SHA-256 of the teacher's weights and of the inputs.
"""

import hashlib
import json
import os
import zipfile
import zlib
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from distill_lib import data
from distill_lib.features import with_outputs
from distill_lib.signals import Signal, dense


class Signals(NamedTuple):
    """What a teacher says about inputs, row by row: ``logits``, a signal ``(n, classes)``;
    ``features`` ``(n, ...)`` of one layer, or ``None``; ``about``, where both come from.
    """

    logits: np.ndarray | Signal
    features: np.ndarray | None
    about: dict


def compute_signals(teacher, x, *, layer_name=None, batch_size=256, store=dense):
    """Run the teacher once over ``x``, in inference mode (no dropout, stored statistics).

    Args:
        teacher: functional or sequential ``keras.Model`` from inputs to logits; unchanged.
        x: array ``(n, ...)`` of inputs, in the order in which they will be used.
        layer_name: a layer (or path) whose output is stored as features, or ``None``.
        batch_size: inputs a forward pass.
        store: function of the logits: :func:`~distill_lib.signals.dense`,
            ``partial(top_k, k=3)``, ``partial(sample, draws=32)``. Features are dense.

    Raises:
        ValueError: no such layer, or whatever ``store`` refuses.
    """
    layers = {} if layer_name is None else {"features": layer_name}
    answers = with_outputs(teacher, layers).predict(x, batch_size=batch_size, verbose=0)
    features = dense(answers["features"]) if layers else None
    return Signals(store(answers["logits"]), features, _about(teacher, x, layer_name, store))


def cached_signals(path, *, teacher, x, layer_name=None, batch_size=256, store=dense):
    """Read the signals at ``path``; if there is no such file, compute and write them.

    The other arguments are those of :func:`compute_signals`. The file is written completely
    or not at all, and never overwritten.

    Raises:
        ValueError: ``path`` is no ``.npz`` in an existing folder, holds anything else, or the
            signals of another teacher, data, layer or store; says which of them changed.
    """
    path = Path(path)
    if path.suffix != ".npz" or not path.parent.is_dir():
        raise ValueError(f"path must be an .npz file in an existing folder, got {path}")
    if not path.exists():
        options = {"layer_name": layer_name, "batch_size": batch_size, "store": store}
        _write(path, compute_signals(teacher, x, **options))
    held, about = _read(path), _about(teacher, x, layer_name, store)
    then = json.loads(str(held["about"]))
    if changed := [name for name in about if then.get(name) != about[name]]:
        raise ValueError(
            f"path must hold the signals of this teacher and data, but {path} is stale: "
            f"changed since it was written: {' and '.join(changed)}. Delete it to compute anew."
        )
    logits = [held[name] for name in sorted(held) if name.startswith("logits")]
    form = store(np.zeros((1, teacher.output_shape[-1])))
    signal = replace(form, arrays=tuple(logits)) if isinstance(form, Signal) else logits[0]
    return Signals(signal, held.get("features"), about)


def load_teacher_logits(part):
    """Logits ``(n, 10)`` of the shipped teacher on the shipped Fashion-MNIST images.

    ``part`` is ``"train"``, ``"validation"`` or ``"test"``, with the rows of
    :func:`distill_lib.data.load_fashion_mnist`; float32, rounded to float16 when stored.
    """
    with np.load(data.asset("teacher_logits.npz"), allow_pickle=False) as arrays:
        if part not in arrays:
            raise ValueError(f"part must be one of {sorted(arrays)}, got {part!r}")
        return arrays[part].astype("float32")


def _about(teacher, x, layer_name, store):
    """What decides the signals, as it is written into the file."""
    store = store if isinstance(store, partial) else partial(store)
    weights = [weight.numpy() for weight in teacher.weights]
    return {
        "teacher": _checksum(weights),
        "data": _checksum([x]),
        "layer_name": layer_name,
        "store": [store.func.__name__, store.keywords],
    }


def _write(path, signals):
    arrays = signals.logits.arrays if isinstance(signals.logits, Signal) else [signals.logits]
    held = {f"logits{number}": array for number, array in enumerate(arrays)}
    held |= {} if signals.features is None else {"features": signals.features}
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        with open(unfinished, "wb") as file:  # a name would get another .npz appended
            np.savez_compressed(file, about=json.dumps(signals.about), **held)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def _read(path):
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {"about": arrays["about"], **arrays}
    except (EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile, zlib.error) as e:
        raise ValueError(f"path must name a file of cached signals, got {path} ({e!r})") from e


def _checksum(arrays):
    digest = hashlib.sha256()
    for array in arrays:
        array = np.ascontiguousarray(array)
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(array.reshape(-1).view(np.uint8))
    return digest.hexdigest()
