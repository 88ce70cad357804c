"""What does not count enters no loss, no term and no metric, however it is said."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from distill_lib import losses
from distill_lib.distiller import Distiller
from distill_lib.terms import DistillationTerm

RNG = np.random.default_rng(3)
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
SOFT = DistillationTerm(losses.soft_target_loss, temperature=3.0)


def compiled(distiller, **options):
    # Eagerly, which is a matter of time only; other tests run the traced step.
    options = {"optimizer": keras.optimizers.SGD(0.5), "run_eagerly": True, **options}
    distiller.compile(**{"loss": LOSS, **options})
    return distiller


def trained(student, terms, x, y, teacher=None, sample_weight=None, **options):
    """The logs of one step, and the student's weights after it."""
    distiller = compiled(Distiller(teacher, student, terms), **options)
    history = distiller.fit(
        x, y, sample_weight=sample_weight, batch_size=len(x), verbose=0, shuffle=False
    ).history
    return {name: value[0] for name, value in history.items()}, student.get_weights()


def assert_close(found, expected):
    for name, value in expected[0].items():
        assert found[0][name] == pytest.approx(value, rel=1e-4, abs=1e-6), name
    for one, other in zip(found[1], expected[1], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


# --- whole examples, in every kind of term ----------------------------------------------

IMAGES = RNG.normal(size=(8, 4, 4, 1)).astype("float32")
LABELS = RNG.integers(0, 3, 8)
KEPT = np.array([1, 0, 1, 1, 0, 1, 1, 1], bool)


def mapper(seed):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((4, 4, 1))
    maps = keras.layers.Conv2D(2, 3, padding="same", name="map")(inputs)
    vector = keras.layers.Dense(5, name="vector")(keras.layers.Flatten()(maps))
    return keras.Model(inputs, keras.layers.Dense(3, name="logits")(vector))


def of_layer(function, layer, **options):
    return DistillationTerm(function, student_layer=layer, teacher_layer=layer, **options)


def squared(*, teacher_logits, student_logits, mask=None):
    values = keras.ops.sum(keras.ops.square(teacher_logits - student_logits), axis=-1)
    return values if mask is None else keras.ops.where(mask, values, 0.0)


TERMS = {
    "logits": SOFT,
    "labels": DistillationTerm(losses.decoupled_loss),
    "correlation": DistillationTerm(losses.correlation_loss),
    "vectors": of_layer(losses.hint_loss, "vector"),
    "maps": of_layer(losses.hint_loss, "map"),
    "attention": of_layer(losses.attention_transfer_loss, "map"),
    "distances": of_layer(losses.distance_relation_loss, "vector"),
    "angles": of_layer(losses.angle_relation_loss, "vector"),
    "similarities": of_layer(losses.similarity_preserving_loss, "map"),
    "contrasts": of_layer(losses.contrastive_loss, "vector"),
    "takes a mask": DistillationTerm(squared),
}


def stored(rows=slice(None)):
    teacher, found = mapper(0), {}
    for layer in ("map", "vector"):
        inner = keras.Model(teacher.input, teacher.get_layer(layer).output)
        found[layer] = inner.predict(IMAGES, verbose=0)[rows]
    logits = teacher.predict(IMAGES, verbose=0)[rows]
    return {"labels": LABELS[rows], "teacher_logits": logits, "teacher_features": found}


def signals_of(term, y):
    names = {"labels", "teacher_logits", "teacher_features"}
    own = {name: y[name] for name in names & (term.takes | {"labels"})}
    if "teacher_features" in own:
        own["teacher_features"] = {
            term.teacher_layer: y["teacher_features"][term.teacher_layer]
        }
    return own


def broken(y):
    """The same with nan, and labels that are none, where nothing counts."""

    def spoil(array):
        array = array.copy()
        array[~KEPT] = 255 if array.dtype.kind == "i" else np.nan
        return array

    return keras.tree.map_structure(spoil, y)


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize("said_by", ["mask", "weight"])
def test_an_example_that_does_not_count_is_as_if_it_were_not_there(name, said_by):
    term, options = TERMS[name], {"metrics": ["accuracy"]}
    alone = signals_of(term, stored(KEPT))
    given = broken(signals_of(term, stored()))
    if said_by == "mask":
        found = trained(mapper(1), term, IMAGES, given | {"mask": KEPT}, **options)
        assert_close(found, trained(mapper(1), term, IMAGES[KEPT], alone, **options))
        return
    # A weight of 0 leaves the example in the divisor, as in Keras: hence the factor.
    found = trained(mapper(1), term, IMAGES, given, sample_weight=KEPT / KEPT.mean(), **options)
    assert_close(found, trained(mapper(1), term, IMAGES[KEPT], alone, **options))


def raving(seed):
    """A teacher whose answers are nan where the inputs are too large."""
    sane = mapper(seed)
    inputs = keras.Input((4, 4, 1))
    nonsense = keras.ops.where(keras.ops.abs(inputs) > 50, np.nan, inputs)
    maps = sane.get_layer("map")(nonsense)
    vector = sane.get_layer("vector")(keras.layers.Flatten()(maps))
    return keras.Model(inputs, sane.get_layer("logits")(vector))


@pytest.mark.parametrize("in_dataset", [False, True])
def test_a_live_teacher_may_answer_nonsense_where_nothing_counts(in_dataset):
    images = np.where(KEPT[:, None, None, None], IMAGES, 99.0).astype("float32")
    terms = [SOFT, TERMS["distances"], TERMS["attention"]]
    alone = trained(mapper(1), terms, IMAGES[KEPT], LABELS[KEPT], mapper(0))
    weights, student = (KEPT / KEPT.mean()).astype("float32"), mapper(1)
    if not in_dataset:
        assert_close(trained(student, terms, images, LABELS, raving(0), weights), alone)
        return
    data = tf.data.Dataset.from_tensor_slices((images, LABELS, weights)).batch(8)
    distiller = compiled(Distiller(raving(0), student, terms), run_eagerly=False)
    history = distiller.fit(data, verbose=0).history
    logs = {name: value[0] for name, value in history.items()}
    assert_close((logs, student.get_weights()), alone)


def test_nan_in_x_spreads_by_the_gradient_and_is_named():
    """0 times nan: the loss stays finite, the weights do not, and nobody shall save them."""
    images = IMAGES.copy()
    images[4] = np.nan
    with pytest.raises(ValueError, match=r"weights must stay finite, .* x is nan in row 4"):
        trained(mapper(1), SOFT, images, LABELS, mapper(0), KEPT.astype("float32"))


@pytest.mark.parametrize("said_by", ["mask", "weight"])
def test_a_batch_in_which_nothing_counts_changes_nothing(said_by):
    given = keras.tree.map_structure(lambda one: one * np.nan, stored())
    given["labels"] = np.full(8, 255)
    weight = None
    if said_by == "mask":
        given["mask"] = np.zeros(8, bool)
    else:
        weight = np.zeros(8)
    student = mapper(1)
    before = student.get_weights()
    terms = [TERMS[name] for name in ("logits", "vectors", "correlation")]
    logs, after = trained(student, terms, IMAGES, given, sample_weight=weight)
    assert set(logs.values()) == {0.0}
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)


def test_pixels_that_do_not_count_leave_images_in_terms_of_maps():
    """A mask of 4 x 4 pixels does not fit a map of 2 x 2; there, images are the examples."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((4, 4, 1))
    small = keras.layers.Conv2D(2, 2, 2, name="small")(inputs)
    answer = keras.layers.Conv2D(3, 1)(keras.layers.UpSampling2D()(small))
    student = keras.Model(inputs, answer)
    labels = RNG.integers(0, 3, (8, 4, 4))
    labels[:, :2] = 255
    labels[3] = 255
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)
    features = RNG.normal(size=(8, 2, 2, 2)).astype("float32")
    term = DistillationTerm(losses.hint_loss, student_layer="small")
    own = keras.Model(inputs, small).predict(IMAGES, verbose=0)
    z = student.predict(IMAGES, verbose=0)
    hard = losses.hard_label_loss(labels=np.where(labels < 3, labels, 0), student_logits=z)
    expected = np.asarray(hard)[labels < 3].mean()
    rows = np.arange(8) != 3
    hint = 0.5 * np.mean(np.square(own - features)[rows])
    logs, _ = trained(
        student, term, IMAGES, {"labels": labels, "teacher_features": features}, loss=loss
    )
    assert logs["student_loss"] == pytest.approx(expected, rel=1e-5)
    assert logs["hint_loss"] == pytest.approx(hint, rel=1e-5)
