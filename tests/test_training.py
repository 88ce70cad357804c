"""Students trained together are the students trained one by one; the seed alone decides."""

import keras
import numpy as np
import pytest

from distill_lib import compress, data, models, training
from distill_lib.losses import (
    distance_relation_loss,
    hard_label_loss,
    mixed_loss,
    soft_target_loss,
)
from distill_lib.training import many

OPTIONS = {"steps": 50, "batch_size": 32}


@pytest.fixture(scope="module")
def digits():
    return data.load_digits()


@pytest.fixture(scope="module")
def signals(digits):
    teacher = np.random.default_rng(0).normal(scale=4, size=(len(digits.x_train), 10))
    return {"labels": digits.y_train, "teacher_logits": teacher.astype("float32")}


def build():
    return models.build_student(16, input_shape=(64,))


def build_with(layer):
    """A student with one more layer before its hidden one.

    (Batch normalisation behind a bias would leave that bias a gradient of rounding errors
    only, which Adam blows up to full steps: no two ways of computing would agree.)
    """

    def make():
        inputs = keras.Input((64,))
        x = keras.layers.Dense(16, activation="relu")(layer()(inputs))
        return keras.Model(inputs, keras.layers.Dense(10)(x))

    return make


def train_by_keras(build, x, signals, function, seed, steps, batch_size, learning_rate=1e-3):
    """The plainest training there is: Keras's own step on one batch after another."""
    keras.utils.set_random_seed(seed)
    model = build()
    names = list(signals)

    def loss(y_true, y_pred):
        columns = {"labels": y_true[:, 0], "teacher_logits": y_true[:, 1:]}
        return function(**{n: columns[n] for n in names}, student_logits=y_pred)

    model.compile(keras.optimizers.Adam(learning_rate), loss=loss)
    packed = np.column_stack(
        [signals.get("labels", np.zeros(len(x))), signals["teacher_logits"]]
    )
    for rows in training.batch_rows(len(x), seed, steps, batch_size):
        model.train_on_batch(x[rows], packed[rows])
    return model


def assert_equal_weights(one, other, tolerance):
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=tolerance, rtol=0)


def differ(one, other):
    pair = one.get_weights(), other.get_weights()
    return any(not np.allclose(a, b) for a, b in zip(*pair, strict=True))


BUILDS = {
    "dense": build,
    "batch normalisation": build_with(keras.layers.BatchNormalization),
    "layer normalisation": build_with(keras.layers.LayerNormalization),
    "dropout": build_with(lambda: keras.layers.Dropout(0.5)),
    "constraint": build_with(
        lambda: keras.layers.Dense(16, kernel_constraint=keras.constraints.NonNeg())
    ),
    "regulariser": build_with(lambda: keras.layers.Dense(16, kernel_regularizer="l2")),
}


@pytest.mark.parametrize("name", BUILDS)
def test_together_as_by_keras_alone(name, digits, signals):
    """Same start, same batches, same temperature: equal to 1e-5 after 50 updates."""
    temperatures = [1.0, 4.0, 2.0]
    trained = training.train_many(
        BUILDS[name],
        digits.x_train,
        signals,
        loss=mixed_loss,
        seeds=[3, 3, 5],
        temperature=temperatures,
        soft_weight=0.7,
        **OPTIONS,
    )
    for model, seed, temperature in zip(trained, [3, 3, 5], temperatures, strict=True):

        def loss(temperature=temperature, **given):
            return mixed_loss(**given, temperature=temperature, soft_weight=0.7)

        alone = train_by_keras(BUILDS[name], digits.x_train, signals, loss, seed, **OPTIONS)
        assert_equal_weights(model, alone, 1e-5)
    assert differ(trained[0], trained[1])
    assert differ(trained[0], trained[2])


def test_what_is_stacked_and_what_is_not():
    stacked = {name for name, make in BUILDS.items() if many._is_stackable(make())}
    assert stacked == {"dense", "batch normalisation", "layer normalisation", "regulariser"}
    assert not many._is_stackable(models.build_small_cnn())


def test_more_students_than_fit_in_one_call(digits, signals, monkeypatch):
    """Groups of two, two and one; each student is as in one large group."""
    options = {"loss": soft_target_loss, "seeds": range(5), "temperature": [1, 2, 3, 4, 5]}
    given = {"teacher_logits": signals["teacher_logits"]}
    together = training.train_many(build, digits.x_train, given, **options, **OPTIONS)
    monkeypatch.setattr("distill_lib.training.many.STUDENTS_PER_CALL", 2)
    apart = training.train_many(build, digits.x_train, given, **options, **OPTIONS)
    for one, other in zip(together, apart, strict=True):
        assert_equal_weights(one, other, 1e-5)


def test_a_loss_on_pairs_sees_the_pairs_of_one_student_only(digits, signals):
    def make():
        student = build()
        outputs = {"logits": student.output, "features": student.get_layer("hidden").output}
        return keras.Model(student.input, outputs)

    given = {"teacher_features": signals["teacher_logits"]}
    options = {"loss": distance_relation_loss, **OPTIONS}
    many = training.train_many(make, digits.x_train, given, seeds=[1, 2], **options)
    alone = training.train_many(make, digits.x_train, given, seeds=[2], **options)
    assert_equal_weights(many[1], alone[0], 1e-5)
    assert differ(*many)


@pytest.mark.parametrize("stacked", [True, False])
def test_a_list_gives_every_student_its_own(stacked, digits, signals, monkeypatch):
    """Own start, own teacher, own temperature; each as if trained without the other."""
    if not stacked:
        monkeypatch.setattr("distill_lib.training.many.STACKABLE", ())
    builds = [lambda: models.build_student(16, (64,)), BUILDS["dense"]]
    starts = [
        training.train_many(
            b,
            digits.x_train,
            {"labels": digits.y_train},
            loss=hard_label_loss,
            seeds=[7],
            steps=s,
        )[0]
        for b, s in zip(builds, (1, 20), strict=True)
    ]
    own = [lambda k=k: compress.copy_model(starts[k]) for k in (0, 1)]
    teachers = [signals["teacher_logits"], -signals["teacher_logits"]]
    options = {"loss": soft_target_loss, **OPTIONS}
    both = training.train_many(
        own,
        digits.x_train,
        {"teacher_logits": teachers},
        seeds=[1, 2],
        temperature=[1.0, 3.0],
        **options,
    )
    for k in (0, 1):
        (alone,) = training.train_many(
            own[k],
            digits.x_train,
            {"teacher_logits": teachers[k]},
            seeds=[1 + k],
            temperature=1.0 + 2 * k,
            **options,
        )
        assert_equal_weights(both[k], alone, 1e-5)


def test_a_convolutional_student_is_trained_alone(digits):
    images = np.random.default_rng(1).random((1000, 8, 8, 1), "float32")

    def make():
        return models.build_small_cnn((2, 3), input_shape=(8, 8, 1))

    options = {"loss": hard_label_loss, "steps": 3, "batch_size": 16}
    labels = {"labels": digits.y_train}
    many = training.train_many(make, images, labels, seeds=[0, 1], **options)
    again = training.train_many(make, images, labels, seeds=[1], **options)
    assert_equal_weights(many[1], again[0], 1e-7)


def test_the_seed_decides_and_the_loss_does_not(digits, signals):
    """With a rate of zero nothing is learnt: what comes back is the start."""
    options = {"steps": 1, "learning_rate": 0.0}
    x, labels = digits.x_train, {"labels": digits.y_train}
    answers = {"teacher_logits": signals["teacher_logits"]}
    hard = training.train_many(build, x, labels, loss=hard_label_loss, seeds=[3, 4], **options)
    soft = training.train_many(build, x, answers, loss=soft_target_loss, seeds=[3], **options)
    assert_equal_weights(hard[0], soft[0], 0)
    assert differ(*hard)


def test_it_makes_exactly_the_number_of_updates(digits):
    """Adam's rate falls to zero after the last update but one: one more would not show."""
    steps = 53  # one more call than whole pieces
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([steps - 2], [0.0, 1e-2])
    options = {"loss": hard_label_loss, "seeds": [0, 1], "learning_rate": schedule}
    x, labels = digits.x_train, {"labels": digits.y_train}
    start = training.train_many(build, x, labels, **options, steps=steps - 1, batch_size=8)
    after = training.train_many(build, x, labels, **options, steps=steps, batch_size=8)
    fresh = training.train_many(build, x, labels, **options, steps=1, batch_size=8)
    assert_equal_weights(start[0], fresh[0], 0)
    assert differ(after[0], start[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.zeros((0, 64))}, r"len\(x\) must be at least 1, got 0"),
        ({"seeds": []}, r"len\(seeds\) must be a whole number of at least 1, got 0"),
        ({"steps": 0}, "steps must be a whole number of at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1, got 0"),
        ({"build": lambda: keras.Sequential([keras.layers.Dense(3)])}, "build must return"),
        ({"build": [build]}, "build must have 2 entries like seeds, got 1"),
        (
            {"signals": {"teacher_logits": [np.zeros((4, 10)), np.zeros((3, 10))]}},
            "teacher_logits must have 4 rows as x has, got 3",
        ),
        ({"seeds": 3}, r"seeds must be a sequence of integers such as range\(3\), got 3"),
        ({"seeds": [0, 1.5]}, "seeds must be integers from 0, got 1.5"),
        ({"seeds": [0, -1]}, "seeds must be integers from 0, got -1"),
        ({"steps": 2.5}, "steps must be a whole number of at least 1, got 2.5"),
        ({"temprature": 2.0}, r"arguments of its loss soft_target_loss, got \['temprature'\]"),
        ({"temperature": "hot"}, "temperature must be a finite number .*, got 'hot'"),
        ({"temperature": np.nan}, "temperature must be a finite number .*, got nan"),
        ({"temperature": np.ones(3)}, "temperature must have 2 entries like seeds, got 3"),
        ({"signals": {"labels": np.zeros(4, int)}}, r"got \['labels'\] beside"),
        (
            {"signals": {}},
            r"all that the loss soft_target_loss takes, \['teacher_logits'\] too",
        ),
        (
            {"signals": {"teacher_logits": 3.0}},
            "teacher_logits must have 4 rows as x has, got 3",
        ),
        ({"temperature": [1.0, 0.0]}, "temperature must be a finite number above 0, got 0"),
        ({"temperature": [1.0]}, "temperature must have 2 entries like seeds, got 1"),
    ],
)
def test_bad_input_is_refused_by_name(change, message):
    logits = {"teacher_logits": np.zeros((4, 10), "float32")}
    options = {"build": build, "x": np.zeros((4, 64)), "signals": logits}
    options |= {"loss": soft_target_loss, "seeds": [0, 1]} | change
    with pytest.raises(ValueError, match=message):
        training.train_many(**options)


def test_numbers_for_each_seed_in_a_list_a_tuple_or_an_array(digits, signals):
    given, options = (
        {"teacher_logits": signals["teacher_logits"]},
        {"seeds": [1, 2], "steps": 3},
    )
    found = [
        training.train_many(
            build, digits.x_train, given, loss=soft_target_loss, temperature=own, **options
        )
        for own in ([1.0, 4.0], (1, 4), np.array([1, 4]), np.float32(1))
    ]
    for other in found[1:3]:
        assert_equal_weights(found[0][1], other[1], 0)
    assert_equal_weights(found[0][0], found[3][0], 0)
    assert differ(found[0][1], found[3][1])


def test_numpy_integers_are_seeds(digits):
    options = {"loss": hard_label_loss, "steps": 1}
    given = digits.x_train, {"labels": digits.y_train}
    own, other = (
        training.train_many(build, *given, seeds=seeds, **options)[0]
        for seeds in (np.arange(3, 5), [3, 4])
    )
    assert_equal_weights(own, other, 0)


@pytest.mark.parametrize("seeds", [[5, 6], [6]])
def test_a_loss_that_becomes_nan_is_named_by_step_and_seed(seeds, digits):
    """A rate that grows without bound: the first loss is that of the start, finite."""

    def loss(*, labels, student_logits):
        return hard_label_loss(labels=labels, student_logits=student_logits) ** 2

    given = digits.x_train, {"labels": digits.y_train}
    options = {"optimizer": keras.optimizers.SGD(1e30), "loss": loss, "seeds": seeds}
    message = (
        "loss must stay finite, got (nan|inf) at step [1-3] of the student of seed [56]: try"
    )
    with pytest.raises(ValueError, match=message):
        training.train_many(build, *given, steps=20, **options)
    options["optimizer"] = keras.optimizers.SGD(float("inf"))
    with pytest.raises(ValueError, match="weights must stay finite, got nan or inf by step 1"):
        training.train_many(build, *given, steps=1, **options)


def test_a_loss_with_any_arguments_gets_all_signals_but_no_mask(digits):
    seen = []

    def loss(**given):
        seen.append(sorted(given))
        return hard_label_loss(labels=given["labels"], student_logits=given["student_logits"])

    counts = np.arange(len(digits.x_train)) % 2 == 0
    given = {"labels": digits.y_train, "other": digits.x_train, "mask": counts}
    training.train_many(build, digits.x_train, given, loss=loss, seeds=[0], steps=1)
    assert seen[0] == ["labels", "other", "student_logits"]


def test_an_interrupt_acts_between_two_calls(digits, monkeypatch):
    pieces = []

    def add(self, count):
        pieces.append(count)
        if len(pieces) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(keras.utils.Progbar, "add", add)
    given, options = {"labels": digits.y_train}, {"steps": 1000, "batch_size": 8}
    with pytest.raises(KeyboardInterrupt):
        training.train_many(
            build, digits.x_train, given, loss=hard_label_loss, seeds=[0, 1], **options
        )
    assert pieces == [50, 50]


def test_students_trained_alone_are_compiled_once_and_built_twice():
    images = np.random.default_rng(1).random((40, 8, 8, 1), "float32")
    calls, traces = [], []

    def make():
        calls.append(1)
        return models.build_small_cnn((2, 3), input_shape=(8, 8, 1))

    def loss(*, labels, student_logits):
        traces.append(1)
        return hard_label_loss(labels=labels, student_logits=student_logits)

    given = {"labels": np.arange(40) % 10}
    students = training.train_many(
        make, images, given, loss=loss, seeds=range(6), steps=60, batch_size=4
    )
    assert (len(calls), len(traces)) == (2, 2)  # of the loss: tried once, traced once
    assert len({float(one.get_weights()[0].sum()) for one in students}) == 6
