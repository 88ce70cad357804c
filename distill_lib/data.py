"""The book's data: three real data sets, shipped with the library and checked when loaded.

Every loader returns a :class:`Splits`. Nothing is unpickled, and a file whose SHA-256
differs from ``assets/SHA256SUMS`` is refused. ``assets/README.md`` holds the data cards.
"""

import gzip
import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

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
    """Return the path of a shipped file after checking it against its recorded SHA-256.

    Raises ``ValueError`` for a name that is not in ``assets/SHA256SUMS`` or for a damaged
    file, ``FileNotFoundError`` for a missing one; both say how to get the file back.
    """
    lines = (ASSETS / "SHA256SUMS").read_text().splitlines()
    recorded = {file: digest for digest, file in (line.split() for line in lines)}
    if name not in recorded:
        raise ValueError(f"name must be one of {sorted(recorded)}, got {name!r}")
    path = ASSETS / name
    remedy = f"Restore it with 'git checkout -- distill_lib/assets/{name}' or 'make assets'."
    if not path.exists():
        raise FileNotFoundError(f"The shipped file {name} is missing. {remedy}")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != recorded[name]:
        raise ValueError(
            f"The shipped file {name} is damaged: its SHA-256 must be "
            f"{recorded[name][:12]}..., got {digest[:12]}.... {remedy}"
        )
    return path


def load_fashion_mnist(full=False):
    """Fashion-MNIST: photographs of clothes in ten classes (Xiao et al., 2017; MIT licence).

    Args:
        full: ``False`` gives the shipped, stratified part: 12,000 training, 2,000
            validation and all 10,000 test images. ``True`` gives 55,000 training and 5,000
            validation images instead, read from Debian's package, Keras's cache or Keras's
            downloader; the shipped images are among them, on the same side of the split.

    Returns:
        :class:`Splits`. Images: float32 ``(n, 28, 28, 1)``, brightness from 0 (background)
        to 1. Labels: int64 ``(n,)``, from 0 to 9.
    """
    if not full:
        with np.load(asset("fashion_mnist.npz"), allow_pickle=False) as arrays:
            parts = [arrays[name] for name in Splits._fields]
    else:
        images, labels, test_images, test_labels = _read_full_fashion_mnist()
        train, validation = split_fashion_mnist(labels)
        parts = [images[train], labels[train], images[validation], labels[validation]]
        parts += [test_images, test_labels]
    scaled = [_scale(part) if part.ndim == 3 else part.astype("int64") for part in parts]
    return Splits(*scaled)


def split_fashion_mnist(labels):
    """Return the recorded split of the 60,000 training images as two index arrays.

    Args:
        labels: integer ``(60000,)``, in the order of the original files.

    Returns:
        ``(train, validation)`` of 55,000 and 5,000 indices, both shuffled; the validation
        part holds 500 images of each class. The seed is fixed: the split never changes.
    """
    order = np.random.default_rng(0).permutation(len(labels))
    by_class = [order[labels[order] == c] for c in range(CLASS_COUNT)]
    validation = np.concatenate([rows[:VALIDATION_PER_CLASS] for rows in by_class])
    is_validation = np.zeros(len(labels), bool)
    is_validation[validation] = True
    return order[~is_validation[order]], order[is_validation[order]]


def load_diamonds():
    """Prices of round-cut diamonds (ggplot2's ``diamonds``, MIT licence), for regression.

    Returns:
        :class:`Splits` with a fixed split of 8,000 / 2,000 / 5,000 of the 53,940 rows.
        Inputs: float32 ``(n, 9)``: carat, depth and table (per cent), x, y and z
        (millimetres), and the ranks of cut, colour and clarity (0 is worst), each
        standardised with the training part's mean and deviation. Targets: float32
        ``(n,)``, the natural logarithm of the price in US dollars.
    """
    with np.load(asset("diamonds.npz"), allow_pickle=False) as arrays:
        parts = {name: arrays[name] for name in Splits._fields}
    mean, deviation = parts["x_train"].mean(axis=0), parts["x_train"].std(axis=0)
    for name in ("x_train", "x_validation", "x_test"):
        parts[name] = (parts[name] - mean) / deviation
    return Splits(**parts)


def load_digits():
    """scikit-learn's 1,797 handwritten digits (BSD licence), for what must run in a second.

    Returns:
        :class:`Splits` with a fixed, stratified split of 1,000 / 297 / 500. Images: float32
        ``(n, 64)``, 8 x 8 pixels in rows, brightness from 0 to 1. Labels: int64 ``(n,)``.
    """
    from sklearn import datasets, model_selection

    digits = datasets.load_digits()
    x, y = (digits.data / 16).astype("float32"), digits.target.astype("int64")
    split = model_selection.train_test_split
    x, x_test, y, y_test = split(x, y, test_size=500, stratify=y, random_state=0)
    x, x_val, y, y_val = split(x, y, test_size=297, stratify=y, random_state=0)
    return Splits(x, y, x_val, y_val, x_test, y_test)


def _scale(images):
    return (images.astype("float32") / 255.0)[..., np.newaxis]


def _read_full_fashion_mnist():
    if DEBIAN_FASHION_MNIST.exists():
        return [
            _read_idx(DEBIAN_FASHION_MNIST / f"{part}-{kind}-ubyte.gz")
            for part in ("train", "t10k")
            for kind in ("images-idx3", "labels-idx1")
        ]
    import keras

    (x, y), (x_test, y_test) = keras.datasets.fashion_mnist.load_data()
    return x, y, x_test, y_test


def _read_idx(path):
    """Read one gzipped file of the IDX format: magic number, sizes, then bytes."""
    raw = gzip.decompress(Path(path).read_bytes())
    dimensions = raw[3]
    if raw[:3] != b"\x00\x00\x08":
        raise ValueError(f"path must name an IDX file of unsigned bytes, got {path}")
    shape = np.frombuffer(raw, ">i4", dimensions, offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * dimensions).reshape(shape)
