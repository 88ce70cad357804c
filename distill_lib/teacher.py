"""A teacher's answers, computed once, stored, and refused when they are stale.

The teacher never changes while a student learns, so running it again every epoch buys
nothing (with augmentation the inputs change, and then a cache is wrong). A cache file
records the SHA-256 of the teacher's weights and of the inputs, and row i of it belongs to
row i of those inputs.
"""

import hashlib
import os
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from distill_lib import data

PARTS = ("train", "validation", "test")


class Signals(NamedTuple):
    """What a teacher says about a set of inputs, row by row.

    ``logits``: ``(n, classes)``; ``features``: ``(n, ...)`` of the layer ``layer_name``,
    or ``None`` for both; ``teacher_sha256`` and ``data_sha256``: where they come from.
    """

    logits: np.ndarray
    features: np.ndarray | None
    teacher_sha256: str
    data_sha256: str
    layer_name: str | None = None


def compute_signals(teacher, x, *, layer_name=None, batch_size=256, dtype="float16"):
    """Run the teacher once over ``x``, in inference mode (no dropout, stored statistics).

    Args:
        teacher: functional or sequential ``keras.Model`` from inputs to logits; unchanged.
        x: array ``(n, ...)`` of inputs, in the order in which they will be used.
        layer_name: a layer whose output is stored as features, or ``None``.
        batch_size: inputs a forward pass.
        dtype: of the stored arrays; float16 keeps about three digits, up to 65,504.

    Returns:
        :class:`Signals`.

    Raises:
        ValueError: no such layer, or signals that ``dtype`` cannot hold.
    """
    # A dict, because Keras returns a list of one output bare, or not, by how it was loaded.
    outputs = {"logits": teacher.outputs[0]}
    if layer_name is not None:
        outputs["features"] = teacher.get_layer(layer_name).output
    model = keras.Model(teacher.inputs[0], outputs)
    answers = model.predict(x, batch_size=batch_size, verbose=0)
    stored = {name: _store(answer, dtype) for name, answer in answers.items()}
    checksums = _teacher_checksum(teacher), _array_checksum([x])
    return Signals(stored["logits"], stored.get("features"), *checksums, layer_name)


def save_signals(path, signals):
    """Write signals to ``path`` (an ``.npz`` file), complete or not at all.

    Raises:
        ValueError: ``path`` does not end in ``.npz``.
        FileNotFoundError: its folder does not exist.
    """
    path = Path(path)
    if path.suffix != ".npz":
        raise ValueError(f"path must end in .npz, got {path}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"path must lie in an existing folder, got {path}")
    arrays = {name: value for name, value in signals._asdict().items() if value is not None}
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        with open(unfinished, "wb") as file:  # a name would get another .npz appended
            np.savez_compressed(file, **arrays)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def load_signals(path, *, teacher, x):
    """Read signals and check that they are this teacher's answers to these inputs.

    Args:
        path: a file written by :func:`save_signals`.
        teacher: the model whose answers are wanted.
        x: the inputs, in the same order and type.

    Returns:
        :class:`Signals`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another kind of file, or a stale one; says which of the two changed.
    """
    signals = _read(Path(path))
    changed = []
    if signals.teacher_sha256 != _teacher_checksum(teacher):
        changed.append("teacher")
    if signals.data_sha256 != _array_checksum([x]):
        changed.append("data")
    if changed:
        raise ValueError(
            f"path must hold the signals of this teacher and data, but {path} is stale: "
            f"changed since it was written: {' and '.join(changed)}. Delete it to compute anew."
        )
    return signals


def cached_signals(path, *, teacher, x, layer_name=None, batch_size=256, dtype="float16"):
    """Load the signals at ``path``, or compute and save them if there is no such file.

    Arguments as in :func:`compute_signals` and :func:`load_signals`.

    Raises:
        ValueError: the file is stale, or holds another layer or dtype than asked for. It
            is never overwritten: delete it to compute anew.
    """
    if not Path(path).exists():
        signals = compute_signals(
            teacher, x, layer_name=layer_name, batch_size=batch_size, dtype=dtype
        )
        save_signals(path, signals)
        return signals
    signals = load_signals(path, teacher=teacher, x=x)
    held = signals.layer_name, signals.logits.dtype.name
    if held != (layer_name, np.dtype(dtype).name):
        raise ValueError(
            f"layer_name and dtype must be those of {path}, {held}, "
            f"got {(layer_name, np.dtype(dtype).name)}. Delete it to compute anew."
        )
    return signals


def load_teacher_logits(part):
    """Logits of the shipped teacher on the shipped Fashion-MNIST images.

    Args:
        part: ``"train"``, ``"validation"`` or ``"test"``, rows as in
            :func:`distill_lib.data.load_fashion_mnist`.

    Returns:
        float32 ``(n, 10)``, rounded to float16 when they were stored.

    Raises:
        ValueError: another ``part``, or a damaged file.
        FileNotFoundError: the file is missing.
    """
    if part not in PARTS:
        raise ValueError(f"part must be one of {PARTS}, got {part!r}")
    with np.load(data.asset("teacher_logits.npz"), allow_pickle=False) as arrays:
        return arrays[part].astype("float32")


def _store(answer, dtype):
    with np.errstate(over="ignore"):  # named below, with what to do about it
        stored = np.asarray(answer).astype(dtype)
    if not np.isfinite(stored).all():
        raise ValueError(f"dtype must hold the teacher's signals, but {dtype} gives inf or nan")
    return stored


def _read(path):
    if not path.exists():
        raise FileNotFoundError(f"path must name an existing signals file, got {path}")
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            held = {name: arrays[name] for name in arrays.files}
        # Texts come back as arrays without axes.
        held = {name: str(a) if a.dtype.kind == "U" else a for name, a in held.items()}
        return Signals(**{"features": None, **held})
    except (
        AttributeError,
        EOFError,
        TypeError,
        ValueError,
        zipfile.BadZipFile,
        zlib.error,
    ) as e:
        raise ValueError(f"path must name a file of save_signals, got {path} ({e})") from e


def _teacher_checksum(teacher):
    return _array_checksum([weight.numpy() for weight in teacher.weights])


def _array_checksum(arrays):
    digest = hashlib.sha256()
    for array in arrays:
        array = np.ascontiguousarray(array)
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(array.reshape(-1).view(np.uint8))
    return digest.hexdigest()
