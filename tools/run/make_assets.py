"""Make the files of ``distill_lib/assets`` again, from the public sources.

``python -m tools.run.make_assets`` makes all of them (the teacher takes about half an hour on
two cores); ``python -m tools.run.make_assets fashion diamonds`` only those named.
"""

import hashlib
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from distill_lib import data, models, teacher

TRAIN_PER_CLASS, VALIDATION_PER_CLASS = 1200, 200
EPOCHS, BATCH, PEAK_RATE = 18, 128, 3e-3


def make_fashion():
    """Take a stratified part of the recorded split, and every test image."""
    (x, y), (x_test, y_test) = data._read_full_fashion_mnist()
    train, validation = data.split_fashion_mnist(y)
    train = _stratified(train, y, TRAIN_PER_CLASS)
    validation = _stratified(validation, y, VALIDATION_PER_CLASS)
    np.savez_compressed(
        data.ASSETS / "fashion_mnist.npz",
        x_train=x[train],
        y_train=y[train],
        train_index=train,
        x_validation=x[validation],
        y_validation=y[validation],
        validation_index=validation,
        x_test=x_test,
        y_test=y_test,
    )


def _stratified(rows, labels, per_class):
    """The first ``per_class`` rows of each class, in the order given."""
    ranks = np.zeros(len(rows), int)
    for c in range(data.CLASS_COUNT):
        of_class = labels[rows] == c
        ranks[of_class] = np.arange(of_class.sum())
    return rows[ranks < per_class]


def make_diamonds():
    """Numbers, and ranks for the three graded qualities, from plotnine's bundled table."""
    import pandas as pd
    import plotnine

    table = pd.read_csv(Path(plotnine.__file__).parent / "data" / "diamonds.csv")
    grades = {
        "cut": "Fair|Good|Very Good|Premium|Ideal",
        "color": "J|I|H|G|F|E|D",
        "clarity": "I1|SI2|SI1|VS2|VS1|VVS2|VVS1|IF",
    }
    columns = [table[c] for c in ("carat", "depth", "table", "x", "y", "z")]
    columns += [table[c].map(g.split("|").index) for c, g in grades.items()]
    x = np.stack(columns, axis=1).astype("float32")
    y = np.log(table["price"].to_numpy()).astype("float32")
    rows = np.random.default_rng(0).permutation(len(y))
    arrays = {}
    spans = {"train": (0, 8000), "validation": (8000, 10000), "test": (10000, 15000)}
    for part, span in spans.items():
        arrays[f"x_{part}"], arrays[f"y_{part}"] = x[rows[slice(*span)]], y[rows[slice(*span)]]
    np.savez_compressed(data.ASSETS / "diamonds.npz", **arrays)


def make_teacher():
    """Train the shipped convolutional teacher on the 55,000 training images.

    Plain cross-entropy (label smoothing would blur what the teacher knows about similar
    classes), AdamW under a one-cycle rate, shifts, mirrors and erased squares. The settings
    were fixed in advance; the 5,000 validation images only watched, and the test images are
    read once, below.
    """
    keras.utils.set_random_seed(0)
    splits = data.load_fashion_mnist(full=True)
    network = models.build_teacher()
    steps = EPOCHS * (len(splits.x_train) // BATCH)
    rate = keras.optimizers.schedules.CosineDecay(
        PEAK_RATE / 20, steps - steps // 5, warmup_target=PEAK_RATE, warmup_steps=steps // 5
    )
    network.compile(
        optimizer=keras.optimizers.AdamW(rate, weight_decay=2e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    rng = np.random.default_rng(0)
    batches = AugmentedBatches(splits.x_train, splits.y_train, BATCH, rng)
    network.fit(
        batches,
        epochs=EPOCHS,
        verbose=2,
        validation_data=(splits.x_validation, splits.y_validation),
        validation_batch_size=500,
    )
    path = data.ASSETS / "teacher.keras"
    keras.Model(network.inputs, network.outputs, name="teacher").save(path)
    for part in ("validation", "test"):
        x, y = (getattr(splits, f"{axis}_{part}") for axis in "xy")
        logits = network.predict(x, batch_size=500, verbose=0)
        print(part, "accuracy", np.mean(logits.argmax(1) == y))


class AugmentedBatches(keras.utils.PyDataset):
    """Shuffled, augmented batches; a new order and new changes every epoch."""

    def __init__(self, x, y, batch, rng):
        super().__init__()
        self.x, self.y, self.batch, self.rng = x, y, batch, rng
        self.on_epoch_begin()

    def __len__(self):
        return len(self.x) // self.batch

    def on_epoch_begin(self):
        self.order = self.rng.permutation(len(self.x))

    def __getitem__(self, i):
        rows = self.order[i * self.batch : (i + 1) * self.batch]
        return augment(self.x[rows], self.rng), self.y[rows]


def augment(images, rng):
    """Shift by up to two pixels, mirror half, erase a 7 x 7 square in half of the images.

    Args:
        images: float32 ``(n, 28, 28, 1)``.

    Returns:
        a changed copy of the same shape.
    """
    n, size = len(images), images.shape[1]
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))
    rows = rng.integers(0, 5, (n, 1)) + np.arange(size)
    columns = rng.integers(0, 5, (n, 1)) + np.arange(size)
    out = padded[np.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]
    mirrored = rng.random(n) < 0.5
    out[mirrored] = out[mirrored][:, :, ::-1]
    for i in np.flatnonzero(rng.random(n) < 0.5):
        top, left = rng.integers(0, size - 6, 2)
        out[i, top : top + 7, left : left + 7] = 0
    return out


def make_logits():
    """Let the teacher answer the shipped images once, in half precision."""
    splits, loaded = data.load_fashion_mnist(), models.load_teacher()
    signals = {
        part: teacher.compute_signals(loaded, getattr(splits, f"x_{part}")).logits
        for part in ("train", "validation", "test")
    }
    np.savez_compressed(data.ASSETS / "teacher_logits.npz", **signals)


def record_checksums():
    """Write the SHA-256 of every shipped file, which the loaders compare with."""
    files = sorted(p for p in data.ASSETS.iterdir() if p.suffix in {".npz", ".keras"})
    lines = [f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.name}" for p in files]
    (data.ASSETS / "SHA256SUMS").write_text("\n".join(lines) + "\n")


MAKERS = {
    "fashion": make_fashion,
    "diamonds": make_diamonds,
    "teacher": make_teacher,
    "logits": make_logits,
}

if __name__ == "__main__":
    for name in sys.argv[1:] or MAKERS:
        MAKERS[name]()
        record_checksums()
