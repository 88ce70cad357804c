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
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from distill_lib import data
from distill_lib.features import with_outputs
from distill_lib.signals import Signal, dense, dense_rows, parts, sampled_rows, take, top_k_rows

FORMS = {form.__name__: form for form in (dense_rows, top_k_rows, sampled_rows)}


class Signals(NamedTuple):
    """What a teacher says about a set of inputs, row by row.

    ``logits``: a signal ``(n, classes)``; ``features``: ``(n, ...)`` of the layer
    ``layer_name``, or ``None`` for both; ``teacher_sha256``, ``data_sha256``: where from.
    """

    logits: np.ndarray | Signal
    features: np.ndarray | None
    teacher_sha256: str
    data_sha256: str
    layer_name: str | None = None


def compute_signals(teacher, x, *, layer_name=None, batch_size=256, store=dense):
    """Run the teacher once over ``x``, in inference mode (no dropout, stored statistics).

    Args:
        teacher: functional or sequential ``keras.Model`` from inputs to logits; unchanged.
        x: array ``(n, ...)`` of inputs, in the order in which they will be used.
        layer_name: a layer (or path) whose output is stored as features, or ``None``.
        batch_size: inputs a forward pass.
        store: function of the logits: :func:`dense`, ``partial(top_k, k=3)``,
            ``partial(sample, draws=32)``; features are dense.

    Raises:
        ValueError: no such layer, or whatever ``store`` refuses.
    """
    layers = {} if layer_name is None else {"features": layer_name}
    answers = with_outputs(teacher, layers).predict(x, batch_size=batch_size, verbose=0)
    features = dense(answers["features"]) if layers else None
    return Signals(store(answers["logits"]), features, *_checksums(teacher, x), layer_name)


def save_signals(path, signals):
    """Write signals to ``path`` (an ``.npz`` file), complete or not at all.

    Raises:
        ValueError: ``path`` does not end in ``.npz``, or live signals.
        FileNotFoundError: its folder does not exist.
    """
    path = Path(path)
    if path.suffix != ".npz":
        raise ValueError(f"path must end in .npz, got {path}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"path must lie in an existing folder, got {path}")
    held = {name: value for name, value in signals._asdict().items() if value is not None}
    arrays, decode = parts(held.pop("logits"))
    if getattr(decode.func, "__name__", None) not in FORMS:
        raise ValueError(f"signals must be stored ones, got a live teacher {decode.func}")
    held |= {f"logits{number}": array for number, array in enumerate(arrays)}
    held["form"] = json.dumps([decode.func.__name__, decode.keywords])
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        with open(unfinished, "wb") as file:  # a name would get another .npz appended
            np.savez_compressed(file, **held)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def load_signals(path, *, teacher, x):
    """Read :class:`Signals` and check that they are this teacher's answers to these inputs.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another kind of file, or a stale one; says which of the two changed.
    """
    signals = _read(Path(path))
    now = dict(zip(("teacher", "data"), _checksums(teacher, x), strict=True))
    then = {"teacher": signals.teacher_sha256, "data": signals.data_sha256}
    if changed := [name for name in now if now[name] != then[name]]:
        raise ValueError(
            f"path must hold the signals of this teacher and data, but {path} is stale: "
            f"changed since it was written: {' and '.join(changed)}. Delete it to compute anew."
        )
    return signals


def cached_signals(path, *, teacher, x, layer_name=None, batch_size=256, store=dense):
    """Load the signals at ``path``, or compute and save them if there is no such file.

    Raises:
        ValueError: the file is stale, or holds another layer or form than asked for. It
            is never overwritten: delete it to compute anew.
    """
    if not Path(path).exists():
        options = {"layer_name": layer_name, "batch_size": batch_size, "store": store}
        save_signals(path, compute_signals(teacher, x, **options))
    signals = load_signals(path, teacher=teacher, x=x)
    rows = take(signals.logits, [0])
    held = signals.layer_name, _form(signals.logits)
    if held != (wanted := (layer_name, _form(store(rows)))):
        raise ValueError(
            f"layer_name and store must be those of {path}, {held}, got {wanted}. "
            "Delete it to compute anew."
        )
    return signals


def load_teacher_logits(part):
    """Logits of the shipped teacher on the shipped Fashion-MNIST images.

    Args:
        part: ``"train"``, ``"validation"`` or ``"test"``, rows as in
            :func:`distill_lib.data.load_fashion_mnist`.

    Returns:
        float32 ``(n, 10)``, rounded to float16 when they were stored.
    """
    with np.load(data.asset("teacher_logits.npz"), allow_pickle=False) as arrays:
        if part not in arrays:
            raise ValueError(f"part must be one of {sorted(arrays)}, got {part!r}")
        return arrays[part].astype("float32")


def _form(signal):
    """What tells two stored signals apart, beside their rows."""
    arrays, decode = parts(signal)
    return decode.func.__name__, decode.keywords, [(a.dtype.name, a.shape[1:]) for a in arrays]


def _read(path):
    if not path.exists():
        raise FileNotFoundError(f"path must name an existing signals file, got {path}")
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            held = {name: arrays[name] for name in arrays.files}
        name, options = json.loads(str(held.pop("form")))
        decode = partial(FORMS[name], **options)
        parts = [held.pop(key) for key in sorted(held) if key.startswith("logits")]
        logits = parts[0] if decode.func is dense_rows else Signal(tuple(parts), decode)
        # Texts come back as arrays without axes.
        held = {name: str(a) if a.dtype.kind == "U" else a for name, a in held.items()}
        return Signals(**{"logits": logits, "features": None, **held})
    except (EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile, zlib.error) as e:
        raise ValueError(f"path must name a file of save_signals, got {path} ({e!r})") from e


def _checksums(teacher, x):
    """SHA-256 of the teacher's weights, and of the inputs."""
    return _checksum([weight.numpy() for weight in teacher.weights]), _checksum([x])


def _checksum(arrays):
    digest = hashlib.sha256()
    for array in arrays:
        array = np.ascontiguousarray(array)
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(array.reshape(-1).view(np.uint8))
    return digest.hexdigest()
