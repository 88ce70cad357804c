"""The file of a teacher's answers: written completely or not at all, never unpickled."""

import json
import os
import zipfile
import zlib

import numpy as np

FORMAT = 3  # raised whenever older files could be misread
DAMAGES = (AttributeError, EOFError, KeyError, TypeError, ValueError)
DAMAGES += (zipfile.BadZipFile, zlib.error)


def write_file(path, arrays, about):
    """Write arrays by name, and a dict for JSON; an interrupted write leaves no file at all."""
    about = json.dumps({"format": FORMAT, **about})
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        with open(unfinished, "wb") as file:  # a name would get another .npz appended
            np.savez_compressed(file, about=about, **arrays)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def read_file(path):
    """Read the arrays and the dict of :func:`write_file`; ``ValueError`` for other files."""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as held:
            arrays = dict(held)
        about = json.loads(str(arrays.pop("about")))
        given = about.get("format", 1)
    except DAMAGES as error:
        rule = "path must name a file of cached signals"
        raise ValueError(f"{rule}, got {path} ({error!r})") from error
    if given != FORMAT:
        rule = f"its format is {given}, this version of the library reads {FORMAT}"
        raise ValueError(f"{path} is stale: {rule}. Delete it to compute anew.")
    return arrays, about
