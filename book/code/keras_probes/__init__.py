"""Probes of `keras.distillation`: one small function for each claim, each with a number.

    python -m keras_probes --output FILE.json        in this folder, or with it on the path

Needs Keras (3.12 or newer), TensorFlow and NumPy, nothing of this book. A probe takes a
:class:`Candidate`, the implementation to be probed, and returns a :class:`Finding`, or None
where the candidate has no such part. The first line of its docstring is the claim, and after
the colon what is measured.
"""

import hashlib
from functools import partial
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from . import losses, models, steps
from .pieces import Candidate, Finding, quiet

__all__ = [
    "PROBES", "Candidate", "Finding", "claims", "examine", "keras_default", "keras_instances",
    "source_digest", "versions",
]  # fmt: skip

PROBES = (*losses.PROBES, *steps.PROBES, *models.PROBES)


def keras_default():
    """Keras's own distillation with the settings of its documentation."""
    logits = keras.distillation.LogitsDistillation
    features = keras.distillation.FeatureDistillation

    def between(teacher_layer, student_layer, loss="mse"):
        names = {"teacher_layer_name": teacher_layer, "student_layer_name": student_layer}
        return features(loss=loss, **names)

    return Candidate(
        distiller=keras.distillation.Distiller,
        logits=lambda temperature: logits(temperature=temperature),
        features=between,
        wide_features=partial(between, loss="cosine_similarity"),
        cross_entropy=lambda temperature: logits(
            temperature=temperature, loss=keras.losses.CategoricalCrossentropy(from_logits=True)
        ),
        label_loss=lambda: "sparse_categorical_crossentropy",
        set_temperature=lambda loss, value: setattr(loss, "temperature", value),
    )


def keras_instances():
    """The same with losses as instances: `KLDivergence()`, and labels against logits."""
    logits = keras.distillation.LogitsDistillation
    return keras_default()._replace(
        logits=lambda t: logits(temperature=t, loss=keras.losses.KLDivergence()),
        label_loss=lambda: keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )


def examine(candidate, probes=PROBES):
    """Run the probes: `{name: Finding or None}`."""
    with quiet():
        return {probe.__name__: probe(candidate) for probe in probes}


def claims():
    """What each probe claims and measures: `{name: sentence}`."""
    return {probe.__name__: probe.__doc__.splitlines()[0] for probe in PROBES}


def source_digest():
    """Eight digits of a checksum over the files of `keras.distillation`, without its tests."""
    folder = Path(keras.__file__).parent / "src" / "distillation"
    files = [path for path in sorted(folder.glob("*.py")) if "test" not in path.name]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:8]


def versions():
    """The versions at work: `{package: version}`."""
    return {"keras": keras.__version__, "tensorflow": tf.__version__, "numpy": np.__version__}
