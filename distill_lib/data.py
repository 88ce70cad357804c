"""The book's data: three real data sets, shipped with the library and checked when loaded.

Every loader returns :class:`Splits`: float32 inputs, with int64 labels or float32 targets
``(n,)``. No file is unpickled. ``assets/README.md`` describes each data set.
"""

import gzip
import hashlib
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
from sklearn import datasets, model_selection

ASSETS = Path(__file__).parent / "assets"
DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
CLASS_COUNT = 10
VALIDATION_PER_CLASS = 500


class Splits(NamedTuple):
    """Inputs and targets of the training, validation and test parts, in that order."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_validation: np.ndarray
    y_validation: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


def asset(name):
    """The path of a shipped file, after its SHA-256 was found to be as recorded.

    Raises:
        ValueError: an unknown name, or a file with another checksum than in ``SHA256SUMS``.
        FileNotFoundError: the file is missing.
    """
    recorded = dict(np.loadtxt(ASSETS / "SHA256SUMS", str, ndmin=2)[:, ::-1].tolist())
    if name not in recorded:
        raise ValueError(f"name must be one of {sorted(recorded)}, got {name!r}")
    path = ASSETS / name
    remedy = f"Restore it with 'git checkout -- distill_lib/assets/{name}' or 'make assets'."
    if not path.exists():
        raise FileNotFoundError(f"The shipped file {name} is missing. {remedy}")
    if hashlib.sha256(path.read_bytes()).hexdigest() != recorded[name]:
        raise ValueError(f"The shipped file {name} is damaged: another SHA-256. {remedy}")
    return path


def load_fashion_mnist(full=False):
    """Fashion-MNIST: photographs of clothes in ten classes (Xiao et al., 2017; MIT licence).

    Images are ``(n, 28, 28, 1)``, with the brightness from 0 (background) to 1. The shipped
    ones are 12,000 / 2,000 / 10,000, with every class equally often in each part.

    Args:
        full: read all 55,000 / 5,000 / 10,000 images, from Debian's package or else with
            Keras's downloader. The shipped images are among them, in the same parts.

    Raises:
        ValueError: the full set that was found has other test images than the shipped one.
    """
    if full:
        (x, y), test = _read_full_fashion_mnist()
        if not all(map(np.array_equal, test, _shipped("fashion_mnist.npz")[4:])):
            source = f"{DEBIAN_FASHION_MNIST} or Keras's cache"
            raise ValueError(f"full needs Fashion-MNIST, got another data set from {source}")
        parts = [a[rows] for rows in split_fashion_mnist(y) for a in (x, y)] + [*test]
    else:
        parts = _shipped("fashion_mnist.npz")
    scaled = (np.float32(p)[..., None] / 255 if p.ndim == 3 else np.int64(p) for p in parts)
    return Splits(*scaled)


def load_diamonds():
    """Prices of round-cut diamonds (ggplot2's ``diamonds``, MIT licence), for regression.

    There are 8,000 / 2,000 / 5,000 of the 53,940 diamonds. Inputs ``(n, 9)`` are carat, depth
    and table (per cent), x, y and z (millimetres), and the ranks of cut, colour and clarity (0
    is worst), each with mean 0 and deviation 1 over the training part. Targets are natural
    logarithms of prices in US dollars.
    """
    parts = _shipped("diamonds.npz")
    mean, deviation = parts[0].mean(axis=0), parts[0].std(axis=0)
    return Splits(*((part - mean) / deviation if part.ndim == 2 else part for part in parts))


def load_digits():
    """scikit-learn's handwritten digits (BSD licence), for what must run in a second.

    There are 1,000 / 297 / 500 images ``(n, 64)`` of 8 x 8 pixels, with the brightness from 0
    to 1. Every class has the same fraction of each part.
    """
    x, y = datasets.load_digits(return_X_y=True)
    x, y, split = np.float32(x / 16), np.int64(y), model_selection.train_test_split
    x, x_test, y, y_test = split(x, y, test_size=500, stratify=y, random_state=0)
    x, x_val, y, y_val = split(x, y, test_size=297, stratify=y, random_state=0)
    return Splits(x, y, x_val, y_val, x_test, y_test)


def split_fashion_mnist(labels):
    """Row numbers for training and for validation: a shuffled order that is always the same.

    ``labels`` are the 60,000 of the original files, in their order. The first 500 rows of each
    class in the shuffled order are for validation.
    """
    order = np.random.default_rng(0).permutation(len(labels))
    of_class = [order[labels[order] == c] for c in range(CLASS_COUNT)]
    validates = np.isin(order, [rows[:VALIDATION_PER_CLASS] for rows in of_class])
    return order[~validates], order[validates]


def _shipped(name):
    with np.load(asset(name), allow_pickle=False) as arrays:
        return [arrays[field] for field in Splits._fields]


def _read_full_fashion_mnist():
    if not DEBIAN_FASHION_MNIST.exists():
        return keras.datasets.fashion_mnist.load_data()
    kinds, path = ("images-idx3", "labels-idx1"), str(DEBIAN_FASHION_MNIST / "{}-{}-ubyte.gz")
    return [[_read_idx(path.format(part, k)) for k in kinds] for part in ("train", "t10k")]


def _read_idx(path):
    """Read one gzipped file of the IDX format: magic number, sizes, then bytes."""
    raw = gzip.decompress(Path(path).read_bytes())
    if raw[:3] != b"\x00\x00\x08":
        raise ValueError(f"path must name an IDX file of unsigned bytes, got {path}")
    start = 4 + 4 * raw[3]
    return np.frombuffer(raw[start:], np.uint8).reshape(np.frombuffer(raw[4:start], ">i4"))
