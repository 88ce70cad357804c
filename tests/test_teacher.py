"""Cached teacher signals: right answers, stale or broken files refused, nothing half done."""

import os
from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as kl

from distill_lib import data, signals
from distill_lib.teacher import answers as teacher_module
from distill_lib.teacher import cache_file, cached_signals, compute_signals, load_teacher_logits

X = np.random.default_rng(0).normal(size=(10, 5)).astype("float32")


@pytest.fixture
def teacher():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5,))
    hidden = kl.Dense(6, activation="relu", name="hidden")(inputs)
    hidden = kl.BatchNormalization(name="normal")(hidden)
    hidden = kl.Dropout(0.5)(hidden)
    return keras.Model(inputs, kl.Dense(3, name="logits")(hidden))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "signals.npz"


def change(teacher):
    weights = teacher.get_weights()
    weights[-1][0] += 1e-6
    teacher.set_weights(weights)


# --- computing ---------------------------------------------------------------------------


def test_signals_are_the_answers_in_inference_mode(teacher):
    before = teacher.get_weights()
    found = compute_signals(teacher, X, layers="hidden", batch_size=4)
    np.testing.assert_allclose(found.logits, teacher(X, training=False), rtol=1e-3, atol=1e-3)
    hidden = teacher.get_layer("hidden")(X)
    np.testing.assert_allclose(found.features, hidden, rtol=1e-3, atol=1e-3)
    for old, new in zip(before, teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_several_layers_are_a_dict_by_name(teacher):
    for layers, names in (
        (["hidden", "normal"], ["hidden", "normal"]),
        ({"low": "hidden"}, ["low"]),
    ):
        found = compute_signals(teacher, X, layers=layers).features
        assert list(found) == names
        hidden = teacher.get_layer("hidden")(X)
        np.testing.assert_allclose(found[names[0]], hidden, rtol=1e-3, atol=1e-3)
    with pytest.raises(ValueError, match="'nope'"):
        compute_signals(teacher, X, layers=["hidden", "nope"])


def dict_teacher(keys):
    inputs = keras.Input((5,))
    answers = {key: (number + 1.0) * inputs for number, key in enumerate(keys)}
    return keras.Model(inputs, answers)


class Called(keras.Model):
    """A teacher that hides its graph."""

    def __init__(self, factor=2.0):
        super().__init__()
        self.factor = factor

    def call(self, x):
        return {"logits": self.factor * x, "sum": keras.ops.sum(x, axis=1)}

    def get_config(self):
        return {"factor": self.factor}


def test_a_dict_of_answers_gives_logits_and_the_entries_asked_for():
    for teacher in (dict_teacher(["other", "logits"]), Called()):
        found = compute_signals(teacher, X)
        np.testing.assert_allclose(found.logits, 2 * X, rtol=1e-3)
        assert found.features is None
    found = compute_signals(dict_teacher(["other", "logits"]), X, layers="other")
    np.testing.assert_allclose(found.features, X, rtol=1e-3)
    found = compute_signals(Called(), X, layers={"total": "sum"})
    np.testing.assert_allclose(found.features["total"], X.sum(axis=1), rtol=1e-3, atol=1e-4)
    with pytest.raises(ValueError, match=r"keys of the answer.*'sum'.*got 'deep'"):
        compute_signals(Called(), X, layers="deep")


def test_a_dict_without_logits_gives_features_by_key(path):
    teacher = dict_teacher(["a", "b"])
    made = compute_signals(teacher, X)
    for found in (made, *(cached_signals(path, teacher=teacher, x=X) for _ in range(2))):
        assert found.logits is None
        assert list(found.features) == ["a", "b"]
        np.testing.assert_allclose(found.features["b"], 2 * X, rtol=1e-3)
    with pytest.raises(ValueError, match="class_names must name 0 classes, got 5"):
        compute_signals(teacher, X, class_names="abcde")


def test_answers_without_names_are_refused():
    inputs = keras.Input((5,))
    with pytest.raises(ValueError, match="must return one tensor or a dict"):
        compute_signals(keras.Model(inputs, [inputs, -inputs]), X)


def two_inputs():
    a, b = keras.Input((5,), name="a"), keras.Input((5,), name="b")
    return keras.Model({"a": a, "b": b}, kl.Subtract()([a, b]))


@pytest.mark.parametrize("form", ["arrays", "batches", "examples", "with labels"])
def test_inputs_come_in_every_form(path, form):
    arrays = {"a": 3 * X, "b": X}
    sliced = tf.data.Dataset.from_tensor_slices(arrays)
    x = {
        "arrays": arrays,
        "batches": sliced.batch(3),
        "examples": sliced,
        "with labels": tf.data.Dataset.zip(sliced, sliced).batch(4),
    }[form]
    teacher = two_inputs()
    for _ in range(2):
        found = cached_signals(path, teacher=teacher, x=x, batch_size=4)
        np.testing.assert_allclose(found.logits, 2 * X, rtol=1e-3)
    # The same rows in another form are the same inputs.
    cached_signals(path, teacher=teacher, x=arrays)
    with pytest.raises(ValueError, match=r"written: data\."):
        cached_signals(path, teacher=teacher, x={"a": X, "b": X})
    with pytest.raises(ValueError, match="x must hold arrays with as many rows"):
        compute_signals(teacher, {"a": X, "b": X[:3]})


def test_a_data_set_must_give_the_same_rows_in_every_pass(teacher, path):
    data_set = tf.data.Dataset.from_tensor_slices(X)
    always = data_set.shuffle(10, seed=0, reshuffle_each_iteration=False).batch(5)
    assert cached_signals(path, teacher=teacher, x=always).logits.shape == (10, 3)
    with pytest.raises(ValueError, match=r"written: data\."):
        cached_signals(path, teacher=teacher, x=data_set.batch(5))
    path.unlink()
    random = np.random.default_rng(0)
    drawn = tf.data.Dataset.from_generator(
        lambda: (x + random.normal() for x in X), output_signature=data_set.element_spec
    )
    for wrong in (data_set.shuffle(10, seed=0).batch(5), drawn.batch(5)):
        with pytest.raises(ValueError, match="same rows in the same order in every pass"):
            cached_signals(path, teacher=teacher, x=wrong)
    with pytest.raises(ValueError, match="x must be a data set that ends"):
        cached_signals(path, teacher=teacher, x=data_set.repeat().batch(5))
    assert not path.exists()


def test_no_rows_are_no_inputs(teacher):
    for nothing in (X[:0], tf.data.Dataset.from_tensor_slices(X[:0]).batch(2)):
        with pytest.raises(ValueError, match="x must hold one row or more"):
            compute_signals(teacher, nothing)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_answers_that_are_no_numbers_are_named_with_their_row(bad):
    inputs = keras.Input((5,))
    teacher = keras.Model(inputs, kl.Identity(name="inner")(inputs))
    broken = X.copy()
    broken[3, 1] = bad
    with pytest.raises(ValueError, match=f"teacher_logits must .*, got {bad} in row 3"):
        compute_signals(teacher, broken, batch_size=2)
    answers = {"logits": 0 * inputs, "seen": inputs}
    with pytest.raises(ValueError, match=r"teacher_(logits|features/seen) must .* in row 3"):
        compute_signals(keras.Model(inputs, answers), broken, layers="seen")
    broken[3, 1] = -np.inf
    assert np.isneginf(compute_signals(teacher, broken).logits[3, 1])
    with pytest.raises(ValueError, match=r"teacher_features/inner must .* got -inf in row 3"):
        compute_signals(teacher, broken, layers="inner")


def test_probabilities_are_refused_as_logits(teacher, path):
    sure = keras.Model(teacher.input, kl.Softmax()(teacher.output))
    with pytest.raises(ValueError, match=r"teacher_logits .* got probabilities.*without_last"):
        cached_signals(path, teacher=sure, x=X)
    assert not path.exists()


def test_signals_beyond_the_type_are_refused(teacher):
    teacher.set_weights([1e3 * weight for weight in teacher.get_weights()])
    with pytest.raises(ValueError, match=r"values must be finite in float16 \(or -inf\), got"):
        compute_signals(teacher, 1e4 * X)


def test_a_store_must_keep_the_rows(teacher):
    with pytest.raises(ValueError, match="store must give 10 rows for as many, got 3"):
        compute_signals(teacher, X, store=lambda logits: logits[:3])


def test_a_store_that_is_not_cached_sees_all_rows_at_once(teacher):
    other = np.asarray(teacher(-X))
    found = compute_signals(teacher, X, store=lambda logits: (logits + other) / 2).logits
    np.testing.assert_allclose(found, (teacher(X) + other) / 2, rtol=1e-4, atol=1e-5)


def test_progress_is_shown_if_it_is_wanted(teacher, capsys):
    compute_signals(teacher, X, batch_size=2)
    assert capsys.readouterr().out == ""
    compute_signals(teacher, X, batch_size=2, verbose=1)
    assert "5/5" in capsys.readouterr().out


# --- keeping -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "layers", [None, "hidden", ["hidden"], {"n/1": "normal", "h": "hidden"}]
)
def test_saved_signals_come_back_unchanged(teacher, path, layers):
    made = compute_signals(teacher, X, layers=layers)
    assert made.logits.dtype == np.float16
    for _ in range(2):
        loaded = cached_signals(path, teacher=teacher, x=X, layers=layers)
        np.testing.assert_array_equal(loaded.logits, made.logits)
        assert {name: loaded.about[name] for name in made.about} == made.about
        if isinstance(made.features, dict):
            assert list(loaded.features) == list(made.features)
            for name, array in made.features.items():
                np.testing.assert_array_equal(loaded.features[name], array)
        elif layers is None:
            assert loaded.features is None
        else:
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
    for other in (np.zeros((5, 10), "float32"), np.zeros((10, 5), "int32"), np.zeros((9, 5))):
        with pytest.raises(ValueError, match="data"):
            cached_signals(path, teacher=teacher, x=other)


def test_training_the_teacher_further_makes_the_file_stale(teacher, path):
    """Also where only the moving statistics change, which are not trainable."""
    cached_signals(path, teacher=teacher, x=X)
    teacher(X, training=True)
    with pytest.raises(ValueError, match=r"written: teacher\."):
        cached_signals(path, teacher=teacher, x=X)


def test_what_does_not_change_an_answer_keeps_the_file(teacher, path):
    cached_signals(path, teacher=teacher, x=X)
    teacher.compile("sgd", "mse")
    teacher.evaluate(X, X[:, :3], verbose=0)
    teacher.trainable = False
    cached_signals(path, teacher=teacher, x=X, batch_size=3)


def test_cache_runs_the_teacher_once(teacher, path, monkeypatch):
    first = cached_signals(path, teacher=teacher, x=X, layers="hidden")

    def refuse(*_, **__):
        raise RuntimeError("the teacher ran again")

    monkeypatch.setattr(teacher_module, "ask", refuse)
    second = cached_signals(path, teacher=teacher, x=X, layers="hidden")
    np.testing.assert_array_equal(first.features, second.features)
    with pytest.raises(ValueError, match=r"written: layers\. "):
        cached_signals(path, teacher=teacher, x=X)
    with pytest.raises(ValueError, match=r"written: store and layers\. "):
        cached_signals(path, teacher=teacher, x=X, store=partial(signals.top_k, k=2))


@pytest.mark.parametrize(
    "store",
    [
        partial(signals.top_k, k=2),
        partial(signals.top_k, k=2, temperature=4.0),
        partial(signals.sample, draws=4, temperature=2.0),
    ],
)
def test_other_forms_come_back_unchanged(teacher, path, store):
    made = compute_signals(teacher, X, store=store).logits
    again = [cached_signals(path, teacher=teacher, x=X, store=store).logits for _ in range(2)]
    for found in again:
        assert repr(found) == repr(made)
        for one, other in zip(made.arrays, found.arrays, strict=True):
            np.testing.assert_array_equal(one, other)
            assert one.dtype == other.dtype
        rows = [signals.take(one, [9, 3, 0]) for one in (made, found)]
        np.testing.assert_array_equal(*rows)
    changed = partial(store.func, **{name: n + 1 for name, n in store.keywords.items()})
    with pytest.raises(ValueError, match=r"written: store\."):
        cached_signals(path, teacher=teacher, x=X, store=changed)


def test_answers_of_every_step_are_kept(path):
    inputs = keras.Input((None, 5))
    teacher = keras.Model(inputs, kl.Dense(7)(inputs))
    x = np.random.default_rng(0).normal(size=(6, 4, 5)).astype("float32")
    for _ in range(2):
        store = partial(signals.top_k, k=2)
        assert cached_signals(path, teacher=teacher, x=x, store=store).logits.shape == (6, 4, 7)


# --- another function with the same weights ----------------------------------------------


def dense(activation=None, dtype=None):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5,), name="inputs")
    layer = kl.Dense(3, activation=activation, name="logits", dtype=dtype)
    return keras.Model(inputs, layer(inputs), name="teacher")


class Scale(kl.Layer):
    """Its factor is in no weight and in no configuration."""

    factor = 1.0

    def call(self, x):
        return self.factor * x


def with_layer(layer):
    model = dense()
    return keras.Model(model.input, layer(model.output), name="teacher")


def halved(x):
    return x / 2


FACTOR = 1.0


def by_a_global(x):
    return FACTOR * x


OTHERS = {
    "activation": (lambda: dense(), lambda: dense("relu")),
    "dtype": (lambda: dense(), lambda: dense(dtype="mixed_float16")),
    "rescaling": (lambda: dense(), lambda: with_layer(kl.Rescaling(2.0))),
    "rescaling by": (
        lambda: with_layer(kl.Rescaling(2.0, name="r")),
        lambda: with_layer(kl.Rescaling(3.0, name="r")),
    ),
    "lambda": (
        lambda: with_layer(kl.Lambda(lambda x: 2 * x, name="f")),
        lambda: with_layer(kl.Lambda(lambda x: 3 * x, name="f")),
    ),
    "function": (
        lambda: with_layer(kl.Activation(lambda x: x * x, name="f")),
        lambda: with_layer(kl.Activation(lambda x: x + x, name="f")),
    ),
    "two functions": (
        lambda: with_layer(kl.Lambda(halved, name="f")),
        lambda: with_layer(kl.Lambda(by_a_global, name="f")),
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_function_with_the_same_weights_is_refused(path, name):
    first, second = OTHERS[name]
    cached_signals(path, teacher=first(), x=X)
    keras.utils.clear_session()
    cached_signals(path, teacher=first(), x=X)
    # The code of a `Lambda` without a name is seen in the answers alone.
    changed = "the teacher's answers" if name == "lambda" else "teacher"
    with pytest.raises(ValueError, match=rf"changed since it was written: {changed}\."):
        cached_signals(path, teacher=second(), x=X)


@pytest.mark.parametrize(
    ("name", "value"), [("factor", 1.1), ("call", lambda self, x: self.factor * x**3)]
)
def test_edited_code_of_a_layer_is_seen_in_the_answers(path, monkeypatch, name, value):
    cached_signals(path, teacher=with_layer(Scale(name="s")), x=X)
    monkeypatch.setattr(Scale, name, value)
    with pytest.raises(ValueError, match=r"written: the teacher's answers\."):
        cached_signals(path, teacher=with_layer(Scale(name="s")), x=X)


class Opaque:
    pass


class WithoutConfig(keras.Model):
    def __init__(self, thing):
        super().__init__()
        self.thing = thing

    def call(self, x):
        return -x


def test_a_subclassed_teacher_is_described_or_refused(path):
    teacher = Called(2.0)
    cached_signals(path, teacher=teacher, x=X)
    cached_signals(path, teacher=Called(2.0), x=X)
    with pytest.raises(ValueError, match=r"written: teacher\."):
        cached_signals(path, teacher=Called(3.0), x=X)
    np.testing.assert_allclose(compute_signals(WithoutConfig(Opaque()), X).logits, -X, 1e-3)
    with pytest.raises(ValueError, match="teacher must describe itself by get_config"):
        cached_signals(path.with_name("b.npz"), teacher=WithoutConfig(Opaque()), x=X)


class Subclassed(keras.Model):
    """It has no weights before its first call."""

    def __init__(self):
        super().__init__()
        self.layer = kl.Dense(3)

    def call(self, x):
        return self.layer(x)

    def get_config(self):
        return {}


def test_the_weights_of_a_subclassed_teacher_count_from_its_first_call(path):
    teacher = Subclassed()
    for _ in range(2):
        cached_signals(path, teacher=teacher, x=X)
    change(teacher)
    with pytest.raises(ValueError, match=r"written: teacher\."):
        cached_signals(path, teacher=teacher, x=X)


# --- other ways of storing ---------------------------------------------------------------


def squeezed(logits, by=2.0):
    return np.float16(logits / by)


def by_factor(logits):
    return np.float16(FACTOR * logits)


def test_a_function_of_ones_own_stores(teacher, path):
    for _ in range(2):
        found = cached_signals(path, teacher=teacher, x=X, store=partial(squeezed, by=4.0))
        np.testing.assert_allclose(found.logits, teacher(X) / 4, rtol=2e-3, atol=1e-3)
    with pytest.raises(ValueError, match=r"written: store\."):
        cached_signals(path, teacher=teacher, x=X, store=squeezed)


def test_an_edited_store_is_refused(teacher, path, monkeypatch):
    cached_signals(path, teacher=teacher, x=X, store=squeezed)
    monkeypatch.setattr(squeezed, "__defaults__", (3.0,))
    with pytest.raises(ValueError, match=r"written: store\."):
        cached_signals(path, teacher=teacher, x=X, store=squeezed)


def test_what_a_store_calls_in_turn_is_seen_in_its_answers(teacher, path, monkeypatch):
    cached_signals(path, teacher=teacher, x=X, store=by_factor)
    monkeypatch.setattr("test_teacher.FACTOR", 2.0)
    with pytest.raises(ValueError, match=r"written: store\."):
        cached_signals(path, teacher=teacher, x=X, store=by_factor)


def test_functions_without_a_name_of_their_own_are_refused(teacher, path):
    def local(logits):
        return logits

    class Store:
        def __call__(self, logits):
            return logits

    for store in (
        lambda logits: logits,
        local,
        partial(lambda logits, k: logits, k=2),
        Store(),
        partial(squeezed, by=np.ones(3)),
        partial(squeezed, by=halved),
    ):
        with pytest.raises(ValueError, match="store must be a module-level function or a func"):
            cached_signals(path, teacher=teacher, x=X, store=store)
    assert not path.exists()


# --- names of classes, versions ----------------------------------------------------------


def test_class_names_are_recorded_and_compared(teacher, path):
    read = partial(cached_signals, path, teacher=teacher, x=X)
    assert read(class_names=["cat", "dog", "eel"]).about["class_names"] == ["cat", "dog", "eel"]
    assert read().about["class_names"] == ["cat", "dog", "eel"]
    for other in (["dog", "cat", "eel"], ["cat", "dog", "fox"], ["cat", "dog"]):
        with pytest.raises(ValueError, match=r"written: class_names\."):
            read(class_names=other)
    path.unlink()
    for wrong, message in ((["a", "b"], "must name 3 classes"), ("aab", "different")):
        with pytest.raises(
            ValueError, match=f"class_names {message}|class_names must .*{message}"
        ):
            read(class_names=wrong)
    read()
    with pytest.raises(ValueError, match=r"written: class_names\."):
        read(class_names=["cat", "dog", "eel"])


def test_another_version_of_keras_is_named(teacher, path, monkeypatch):
    monkeypatch.setattr(teacher_module.keras, "__version__", "3.0.0")
    cached_signals(path, teacher=teacher, x=X)
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"written: keras \(then 3\.0\.0\)\. Delete"):
        cached_signals(path, teacher=teacher, x=X)


def test_files_of_another_format_are_stale(teacher, path, monkeypatch):
    np.savez(path, about='{"teacher": "abc"}', logits0=X)
    with pytest.raises(ValueError, match=r"stale: its format is 1, .* reads 3\. Delete it"):
        cached_signals(path, teacher=teacher, x=X)
    path.unlink()
    monkeypatch.setattr(cache_file, "FORMAT", 4)
    cached_signals(path, teacher=teacher, x=X)
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"stale: its format is 4, .* reads 3"):
        cached_signals(path, teacher=teacher, x=X)


# --- files -------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_interrupted_write_leaves_no_file(teacher, path, monkeypatch, error):
    def break_off(file, **_):
        file.write(b"half of it")
        raise error("in the middle")

    monkeypatch.setattr(np, "savez_compressed", break_off)
    with pytest.raises(error, match="in the middle"):
        cached_signals(path, teacher=teacher, x=X)
    assert os.listdir(path.parent) == []


def test_bad_paths(teacher, tmp_path):
    for bad in ("signals.npy", "missing/signals.npz"):
        with pytest.raises(
            ValueError, match=r"path must be an \.npz file in an existing folder"
        ):
            cached_signals(tmp_path / bad, teacher=teacher, x=X)


@pytest.mark.parametrize(
    "damage", ["text", "empty", "truncated", "flipped", "other_npz", "npy", "pickle", "list"]
)
def test_files_of_another_kind_are_refused(teacher, path, damage):
    cached_signals(path, teacher=teacher, x=X)
    whole = path.read_bytes()
    if damage == "other_npz":
        np.savez(path, x=X)
    elif damage == "list":
        np.savez(path, about="[]")
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


# --- the shipped teacher -----------------------------------------------------------------


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
