"""The file of a teacher's answers: written completely or not at all, never unpickled."""

import json
import os
import zipfile
import zlib
from typing import NamedTuple

import numpy as np

from distill_lib.signals.stored import StoredSignal

FORMAT = 2  # raised whenever older files could be misread


class CacheFile(NamedTuple):
    """What a file holds.

    Attributes:
        logits: a tuple of the arrays in which they are stored, or ``None``.
        features: an array, a dict of arrays by name, or ``None``.
        probe: the first few rows of all answers by name, as they were before storing.
        about: a dict of what decided the answers.
    """

    logits: tuple | None
    features: np.ndarray | dict | None
    probe: dict
    about: dict


def write_file(path, answers, probe):
    """Write ``TeacherAnswers`` and a probe; an interrupted write leaves no file at all."""
    logits, features = answers.logits, answers.features
    parts = logits.arrays if isinstance(logits, StoredSignal) else [logits]
    held = {} if logits is None else {f"logits/{i}": one for i, one in enumerate(parts)}
    if isinstance(features, dict):
        held |= {f"features/{name}": one for name, one in features.items()}
    elif features is not None:
        held["features"] = features
    held |= {f"probe/{name}": one for name, one in probe.items()}
    about = json.dumps({"format": FORMAT, **answers.about})
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        with open(unfinished, "wb") as file:  # a name would get another .npz appended
            np.savez_compressed(file, about=about, **held)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def read_file(path):
    """Read what :func:`write_file` wrote; ``ValueError`` for any other file."""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            held = dict(arrays)
        about = json.loads(str(held["about"]))
        given = about.get("format", 1)
    except (EOFError, *_DAMAGES) as error:
        rule = "path must name a file of cached signals"
        raise ValueError(f"{rule}, got {path} ({error!r})") from error
    if given != FORMAT:
        rule = f"its format is {given}, this version of the library reads {FORMAT}"
        raise ValueError(f"{path} is stale: {rule}. Delete it to compute anew.")
    logits = [held[f"logits/{i}"] for i in range(len(_below("logits/", held)))]
    features = held.get("features", _below("features/", held) or None)
    return CacheFile(tuple(logits) or None, features, _below("probe/", held), about)


_DAMAGES = (AttributeError, KeyError, TypeError, ValueError, zipfile.BadZipFile, zlib.error)


def _below(prefix, held):
    found = {name: array for name, array in held.items() if name.startswith(prefix)}
    return {name.removeprefix(prefix): array for name, array in found.items()}
