"""Cached teacher signals: right answers, stale or broken files refused, nothing half done."""

import os
from functools import partial

import keras
import numpy as np
import pytest

from distill_lib import data, signals
from distill_lib import teacher as teacher_module
from distill_lib.teacher import (
    cached_signals,
    compute_signals,
    load_teacher_logits,
)

X = np.random.default_rng(0).normal(size=(10, 5)).astype("float32")


@pytest.fixture
def teacher():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5,))
    hidden = keras.layers.Dense(6, activation="relu", name="hidden")(inputs)
    hidden = keras.layers.BatchNormalization()(hidden)
    hidden = keras.layers.Dropout(0.5)(hidden)
    return keras.Model(inputs, keras.layers.Dense(3, name="logits")(hidden))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "signals.npz"


def change(teacher):
    weights = teacher.get_weights()
    weights[-1][0] += 1e-6
    teacher.set_weights(weights)


def test_signals_are_the_answers_in_inference_mode(teacher):
    before = teacher.get_weights()
    found = compute_signals(teacher, X, layer_name="hidden", batch_size=4)
    np.testing.assert_allclose(found.logits, teacher(X, training=False), rtol=1e-3, atol=1e-3)
    hidden = teacher.get_layer("hidden")(X)
    np.testing.assert_allclose(found.features, hidden, rtol=1e-3, atol=1e-3)
    for old, new in zip(before, teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_saved_signals_come_back_unchanged(teacher, path):
    for layer_name in (None, "hidden"):
        path.unlink(missing_ok=True)
        made = compute_signals(teacher, X, layer_name=layer_name)
        assert made.logits.dtype == np.float16
        for _ in range(2):
            loaded = cached_signals(path, teacher=teacher, x=X, layer_name=layer_name)
            assert loaded.about == made.about
            np.testing.assert_array_equal(loaded.logits, made.logits)
            assert (loaded.features is None) == (layer_name is None)
    np.testing.assert_array_equal(loaded.features, made.features)
    assert os.listdir(path.parent) == ["signals.npz"]


@pytest.mark.parametrize("stale", ["teacher", "data", "teacher and data"])
def test_stale_file_is_refused_by_name(teacher, path, stale):
    cached_signals(path, teacher=teacher, x=X)
    x = X
    if "teacher" in stale:
        change(teacher)
    if "data" in stale:
        x = X[::-1]  # the same images in another order: row i is no longer row i
    message = rf"signals\.npz is stale: changed since it was written: {stale}\. "
    with pytest.raises(ValueError, match=message):
        cached_signals(path, teacher=teacher, x=x)


def test_shape_and_type_belong_to_the_checksum(teacher, path):
    cached_signals(path, teacher=teacher, x=np.zeros((10, 5), "float32"))
    for other in (np.zeros((5, 10), "float32"), np.zeros((10, 5), "int32")):
        with pytest.raises(ValueError, match="data"):
            cached_signals(path, teacher=teacher, x=other)


def test_training_the_teacher_further_makes_the_file_stale(teacher, path):
    """Also where only the moving statistics change, which are not trainable."""
    cached_signals(path, teacher=teacher, x=X)
    teacher(X, training=True)
    with pytest.raises(ValueError, match=r"written: teacher\."):
        cached_signals(path, teacher=teacher, x=X)


def test_cache_runs_the_teacher_once(teacher, path, monkeypatch):
    first = cached_signals(path, teacher=teacher, x=X, layer_name="hidden")

    def refuse(*_, **__):
        raise RuntimeError("the teacher ran again")

    monkeypatch.setattr(teacher_module, "compute_signals", refuse)
    second = cached_signals(path, teacher=teacher, x=X, layer_name="hidden")
    np.testing.assert_array_equal(first.features, second.features)
    with pytest.raises(ValueError, match=r"written: layer_name\. "):
        cached_signals(path, teacher=teacher, x=X)
    with pytest.raises(ValueError, match=r"written: layer_name and store\. "):
        cached_signals(path, teacher=teacher, x=X, store=partial(signals.top_k, k=2))


@pytest.mark.parametrize(
    "store", [partial(signals.top_k, k=2), partial(signals.sample, draws=4, temperature=2.0)]
)
def test_other_forms_come_back_unchanged(teacher, path, store):
    made = cached_signals(path, teacher=teacher, x=X, store=store)
    again = cached_signals(path, teacher=teacher, x=X, store=store)
    for one, other in zip(made.logits.arrays, again.logits.arrays, strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype
    rows = [signals.take(one.logits, [3, 0]) for one in (made, again)]
    np.testing.assert_array_equal(*rows)
    changed = partial(store.func, **{name: n + 1 for name, n in store.keywords.items()})
    with pytest.raises(ValueError, match=r"written: store\."):
        cached_signals(path, teacher=teacher, x=X, store=changed)


def test_interrupted_write_leaves_no_file(teacher, path, monkeypatch):
    def break_off(file, **_):
        file.write(b"half of it")
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez_compressed", break_off)
    with pytest.raises(OSError, match="disk full"):
        cached_signals(path, teacher=teacher, x=X)
    assert os.listdir(path.parent) == []


def test_bad_paths(teacher, tmp_path):
    for bad in ("signals.npy", "missing/signals.npz"):
        with pytest.raises(
            ValueError, match=r"path must be an \.npz file in an existing folder"
        ):
            cached_signals(tmp_path / bad, teacher=teacher, x=X)


@pytest.mark.parametrize(
    "damage", ["text", "empty", "truncated", "flipped", "other_npz", "npy", "pickle"]
)
def test_files_of_another_kind_are_refused(teacher, path, damage):
    cached_signals(path, teacher=teacher, x=X)
    whole = path.read_bytes()
    if damage == "other_npz":
        np.savez(path, x=X)
    elif damage == "pickle":
        np.savez(path, about="{}", features=np.array([{"object": 1}], dtype=object))
    elif damage == "npy":
        with open(path, "wb") as file:
            np.save(file, X)
    else:
        flipped = whole[:60] + bytes(255 - byte for byte in whole[60:90]) + whole[90:]
        contents = {"text": b"not arrays", "empty": b"", "truncated": whole[:-40]}
        path.write_bytes({**contents, "flipped": flipped}[damage])
    with pytest.raises(ValueError, match="path must name a file of cached signals, got"):
        cached_signals(path, teacher=teacher, x=X)


def test_signals_beyond_the_type_are_refused(teacher):
    teacher.set_weights([1e4 * weight for weight in teacher.get_weights()])
    with pytest.raises(ValueError, match="values must be finite in float16, got inf or nan"):
        compute_signals(teacher, 1e4 * X)


@pytest.mark.parametrize(
    ("part", "count"), [("train", 12000), ("validation", 2000), ("test", 10000)]
)
def test_shipped_logits_belong_to_the_shipped_images(part, count):
    logits = load_teacher_logits(part)
    labels = getattr(data.load_fashion_mnist(), f"y_{part}")
    assert logits.shape == (count, 10)
    assert logits.dtype == np.float32
    assert np.isfinite(logits).all()
    # In another order of rows the agreement would be one in ten.
    assert np.mean(np.argmax(logits, axis=1) == labels) > 0.9


def test_unknown_part_is_refused():
    with pytest.raises(ValueError, match=r"part must be one of .* got 'valid'"):
        load_teacher_logits("valid")
