"""A task that the book does not show: which of ten digits stand in a picture of two.

Every picture is two handwritten digits side by side, so one or two of ten labels are true;
digits from 7 on are rare. All values are compared with NumPy.
"""

import keras
import numpy as np
import pytest
from scipy.special import expit

from distill_lib import DistillationTerm, Distiller, losses, predict_logits, train_many
from distill_lib.data import load_digits

TEMPERATURE = 2.0
LABEL_LOSS = keras.losses.BinaryCrossentropy(from_logits=True)
RARE = slice(7, 10)


def pairs(images, digits, count, seed):
    random = np.random.default_rng(seed)
    chance = np.where(digits < 7, 1.0, 0.25)
    left, right = random.choice(len(digits), (2, count), p=chance / chance.sum())
    x = np.concatenate([images.reshape(-1, 8, 8, 1)[rows] for rows in (left, right)], axis=2)
    labels = np.zeros((count, 10), "float32")
    labels[np.arange(count), digits[left]] = labels[np.arange(count), digits[right]] = 1
    return x, labels


PARTS = load_digits()
X, LABELS = pairs(PARTS.x_train, PARTS.y_train, 1500, seed=0)
X_NEW, LABELS_NEW = pairs(PARTS.x_test, PARTS.y_test, 500, seed=1)
RATIO = (1 - LABELS).sum(axis=0) / LABELS.sum(axis=0)  # of no to yes, for each label


def network(filters, seed=0, column=False):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((8, 16, 1))
    x = keras.layers.Conv2D(filters, 3, activation="relu", padding="same")(inputs)
    x = keras.layers.MaxPooling2D(2)(x)
    x = keras.layers.Conv2D(filters, 3, activation="relu")(x)
    x = keras.layers.Dense(10)(keras.layers.Flatten()(x))
    # As a column, each label of each picture is an example with a mask of its own.
    return keras.Model(inputs, keras.layers.Reshape((10, 1))(x) if column else x)


def student():
    return network(6)


@pytest.fixture(scope="module")
def teacher():
    model = network(24)
    model.compile(keras.optimizers.Adam(0.004), LABEL_LOSS)
    model.fit(X, LABELS, batch_size=64, epochs=8, verbose=0)
    return model


def soft(**knobs):
    knobs = {"temperature": TEMPERATURE, **knobs}
    return DistillationTerm(losses.bernoulli_soft_target_loss, name="soft", **knobs)


def compiled(distiller, **options):
    optimizer = keras.optimizers.Adam(0.004)
    distiller.compile(optimizer, **{"loss": LABEL_LOSS, **options})
    return distiller


def measured(distiller, x, y, **options):
    options |= {"batch_size": len(x), "verbose": 0, "return_dict": True}
    return distiller.evaluate(x, y, **options)


def logits_of(model, x):
    return predict_logits(model, x).astype("float64")


def divergences(teacher, student, x, temperature=TEMPERATURE):
    """T^2 KL(p || q) of yes and no, and p, for each label ``(n, 10)``, by NumPy."""
    p, q = (expit(logits_of(model, x) / temperature) for model in (teacher, student))
    p, q = p.reshape(len(x), -1), q.reshape(len(x), -1)
    return temperature**2 * (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))), p


def cross_entropies(student, x, labels, positive_weight=1.0):
    q = expit(logits_of(student, x).reshape(len(x), -1))
    return -(positive_weight * labels * np.log(q) + (1 - labels) * np.log(1 - q))


@pytest.mark.parametrize("ratio", [5.0, RATIO.tolist()], ids=["one", "each"])
def test_soft_and_hard_losses_are_those_of_numpy(teacher, ratio):
    hard = DistillationTerm(losses.binary_label_loss, positive_weight=ratio, name="hard")
    terms = [soft(positive_weight=ratio), hard]
    weights = {"distillation_loss_weights": [0.5, 2.0], "student_loss_weight": 0.3}
    distiller = compiled(Distiller(teacher, student(), terms, **weights))
    found = measured(distiller, X_NEW, LABELS_NEW)
    values, p = divergences(teacher, distiller.student, X_NEW)
    wanted = {
        "soft": (values * (1 + (np.array(ratio) - 1) * p)).mean(),
        "hard": cross_entropies(distiller.student, X_NEW, LABELS_NEW, np.array(ratio)).mean(),
        "student_loss": cross_entropies(distiller.student, X_NEW, LABELS_NEW).mean(),
    }
    wanted["distillation_loss"] = 0.5 * wanted["soft"] + 2.0 * wanted["hard"]
    wanted["loss"] = 0.3 * wanted["student_loss"] + 0.7 * wanted["distillation_loss"]
    assert found == pytest.approx(wanted, rel=1e-4)


def test_accuracy_of_logits_needs_the_threshold_zero(teacher):
    accuracy = keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.0)
    distiller = compiled(Distiller(teacher, student(), soft()), metrics=[accuracy])
    found = measured(distiller, X_NEW, LABELS_NEW)["accuracy"]
    is_right = (logits_of(distiller.student, X_NEW) > 0) == (LABELS_NEW == 1)
    assert found == pytest.approx(is_right.mean(), abs=1e-6)


@pytest.mark.parametrize("given", ["mask", "weight"])
def test_a_missing_label_counts_in_no_loss(teacher, given):
    """In a column ``(n, 10, 1)`` single labels may be missing: nan, masked or of weight 0."""
    as_column = keras.Model(teacher.input, keras.layers.Reshape((10, 1))(teacher.output))
    is_known = np.random.default_rng(2).random(LABELS_NEW.shape) < 0.6
    labels = np.where(is_known, LABELS_NEW, np.nan)[..., None]
    distiller = compiled(Distiller(as_column, network(6, column=True), soft()))
    if given == "mask":
        y, options, divisor = {"labels": labels, "mask": is_known}, {}, is_known.sum()
    else:  # Keras's rule: a weight of 0 stays in the divisor
        y, options, divisor = labels, {"sample_weight": is_known.astype("float32")}, labels.size
    found = measured(distiller, X_NEW, y, **options)
    values, _ = divergences(teacher, distiller.student, X_NEW)
    errors = cross_entropies(distiller.student, X_NEW, LABELS_NEW)
    wanted = {"soft": values[is_known].sum(), "student_loss": errors[is_known].sum()}
    wanted = {name: value / divisor for name, value in wanted.items()}
    assert {name: found[name] for name in wanted} == pytest.approx(wanted, rel=1e-4)
    distiller.fit(X_NEW, y, epochs=1, verbose=0, **options)  # raises if the loss becomes nan
    assert np.isfinite(logits_of(distiller.student, X_NEW)).all()


@keras.saving.register_keras_serializable("tests")
def known_label_loss(*, labels, student_logits):
    """The mean over the labels that are known; unknown ones are -1."""
    is_known = keras.ops.not_equal(labels, -1)
    errors = keras.ops.binary_crossentropy(
        keras.ops.where(is_known, labels, 0.0), student_logits, from_logits=True
    )
    errors = keras.ops.where(is_known, errors, 0.0)
    return keras.ops.sum(errors, -1) / keras.ops.sum(keras.ops.cast(is_known, "float32"), -1)


def test_the_teacher_may_still_teach_where_a_label_is_missing(teacher):
    """A weight of 0 silences the teacher too. Labels that only the label loss misses are -1."""
    is_known = np.random.default_rng(2).random(LABELS_NEW.shape) < 0.6
    is_known[:, 0] = True  # one label or more of every picture
    terms = [soft(), DistillationTerm(known_label_loss)]
    distiller = compiled(
        Distiller(teacher, student(), terms, student_loss_weight=0.0), loss=None
    )
    found = measured(distiller, X_NEW, {"labels": np.where(is_known, LABELS_NEW, -1)})
    values, _ = divergences(teacher, distiller.student, X_NEW)
    errors = np.where(is_known, cross_entropies(distiller.student, X_NEW, LABELS_NEW), 0)
    assert found["soft"] == pytest.approx(values.mean(), rel=1e-4)
    wanted = (errors.sum(-1) / is_known.sum(-1)).mean()
    assert found["known_label_loss"] == pytest.approx(wanted, rel=1e-4)


def test_the_distilled_student_approaches_the_teacher(teacher):
    distiller = compiled(Distiller(teacher, student(), soft(), student_loss_weight=0.1))
    before = divergences(teacher, distiller.student, X_NEW)[0].mean()
    distiller.fit(X, LABELS, batch_size=64, epochs=8, verbose=0)
    after = divergences(teacher, distiller.student, X_NEW)[0].mean()
    assert after < 0.4 * before


def mixed_binary_loss(*, labels, teacher_logits, student_logits, positive_weight):
    pair = {"teacher_logits": teacher_logits, "student_logits": student_logits}
    weight = {"positive_weight": positive_weight}
    hard = losses.binary_label_loss(labels=labels, student_logits=student_logits, **weight)
    return 0.5 * hard + 0.5 * losses.bernoulli_soft_target_loss(**pair, **weight)


def test_train_many_finds_more_of_the_rare_labels_with_their_weight(teacher):
    """Two students of one start and one order of batches, with and without the weight."""
    signals = {"labels": LABELS, "teacher_logits": predict_logits(teacher, X)}
    options = {"seeds": [0, 0], "steps": 150, "batch_size": 64, "learning_rate": 0.004}
    students = train_many(
        student, X, signals, loss=mixed_binary_loss, positive_weight=[1.0, 6.0], **options
    )
    start = divergences(teacher, student(), X_NEW, 1.0)[0].mean()
    assert divergences(teacher, students[0], X_NEW, 1.0)[0].mean() < 0.6 * start
    is_found = [logits_of(model, X_NEW)[:, RARE] > 0 for model in students]
    is_there = LABELS_NEW[:, RARE] == 1
    recall = [found[is_there].mean() for found in is_found]
    assert recall[1] > recall[0] + 0.1
