"""The distiller: its loss is the formula, in one pass, and nothing else is changed."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from distill_lib import features, losses, signals
from distill_lib.distiller import Distiller
from distill_lib.teacher import compute_signals
from distill_lib.terms import DistillationTerm

RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 6)).astype("float32")
LABELS = RNG.integers(0, 3, 24)
WEIGHTS = RNG.uniform(0.1, 2, 24).astype("float32")
LABEL_LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def net(width=5, seed=1, extra=(), **hidden):
    keras.utils.set_random_seed(seed)
    inputs = x = keras.Input((6,))
    x = keras.layers.Dense(width, activation="relu", name="hidden", **hidden)(x)
    for layer in extra:
        x = layer(x)
    return keras.Model(inputs, keras.layers.Dense(3, name="logits")(x), name="net")


def teacher_net():
    return net(7, seed=0, extra=[keras.layers.BatchNormalization(), keras.layers.Dropout(0.5)])


def soft(**knobs):
    return DistillationTerm(losses.soft_target_loss, **{"temperature": 3.0, **knobs})


def hint(width=5, **options):
    adapter = features.projector((None, width), 7)
    layers = {"student_layer": "hidden", "teacher_layer": "hidden", "adapter": adapter}
    return DistillationTerm(losses.hint_loss, **{**layers, **options})


def compiled(distiller, **options):
    distiller.compile(**{"optimizer": "sgd", "loss": LABEL_LOSS, **options})
    return distiller


def value(distiller, *data, **options):
    """The loss that ``evaluate`` sees, in one batch."""
    options = {"batch_size": len(X), "verbose": 0, "return_dict": True, **options}
    return distiller.evaluate(*data, **options)["loss"]


def cross_entropy(student):
    logits = student(X)
    return np.asarray(losses.hard_label_loss(labels=LABELS, student_logits=logits))


def divergence(teacher, student, temperature=3.0):
    pair = {"teacher_logits": teacher(X), "student_logits": student(X)}
    return np.asarray(losses.soft_target_loss(**pair, temperature=temperature))


def unchanged(before, model):
    return all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


# --- the value -------------------------------------------------------------------------


def test_the_loss_is_the_formula():
    teacher, student = teacher_net(), net()
    terms = [soft(), DistillationTerm(losses.logit_matching_loss)]
    distiller = compiled(Distiller(teacher, student, terms, [2.0, 0.5], 0.3))
    matching = losses.logit_matching_loss(teacher_logits=teacher(X), student_logits=student(X))
    soft_part = 2.0 * divergence(teacher, student).mean() + 0.5 * np.mean(matching)
    expected = 0.3 * cross_entropy(student).mean() + 0.7 * soft_part
    assert value(distiller, X, LABELS) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("stored", [False, True])
def test_sample_and_class_weights_count_in_every_part(stored):
    teacher, student = teacher_net(), net()
    distiller = compiled(Distiller(None if stored else teacher, student, soft()))
    y = LABELS
    if stored:
        y = {"labels": LABELS, "teacher_logits": compute_signals(teacher, X).logits}
    each = 0.5 * cross_entropy(student) + 0.5 * divergence(teacher, student)
    found = value(distiller, X, y, sample_weight=WEIGHTS)
    assert found == pytest.approx((WEIGHTS * each).mean(), rel=1e-3)
    by_class = {0: 3.0, 1: 0.0, 2: 0.5}
    expected = np.mean([by_class[label] for label in LABELS] * each)
    options = {"batch_size": len(X), "verbose": 0}
    history = distiller.fit(X, y, class_weight=by_class, **options).history
    assert history["loss"][0] == pytest.approx(expected, rel=1e-3)


def test_penalties_count_in_full():
    class Penalty(keras.layers.Layer):
        def call(self, x):
            self.add_loss(10 * keras.ops.mean(keras.ops.square(x)))
            return x

    plain = net()
    student = net(kernel_regularizer=keras.regularizers.L2(2.0), extra=[Penalty()])
    student.set_weights(plain.get_weights())
    teacher = teacher_net()
    pair = [compiled(Distiller(teacher, one, soft())) for one in (plain, student)]
    without, with_penalties = (value(one, X, LABELS) for one in pair)
    hidden = np.maximum(X @ plain.get_weights()[0] + plain.get_weights()[1], 0)
    expected = 2 * np.square(plain.get_weights()[0]).sum() + 10 * np.square(hidden).mean()
    assert with_penalties - without == pytest.approx(expected, rel=1e-4)


def masked_net(seed, width=4):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((5,), dtype="int32")
    x = keras.layers.Embedding(9, width, mask_zero=True, name="embedding")(inputs)
    return keras.Model(inputs, keras.layers.Dense(3, name="logits")(x))


def test_padding_counts_nowhere():
    tokens = RNG.integers(1, 9, (6, 5))
    tokens[:, 3:] = 0
    labels = RNG.integers(0, 3, (6, 5))
    teacher, student = masked_net(0), masked_net(1)
    layers = {"student_layer": "embedding", "teacher_layer": "embedding"}
    terms = [soft(), DistillationTerm(losses.hint_loss, **layers)]
    distiller = compiled(Distiller(teacher, student, terms))
    real = tokens[:, :3]
    alone = compiled(Distiller(teacher_of(teacher), teacher_of(student), terms))
    found = [value(one, t, y) for one, t, y in
             ((distiller, tokens, labels), (alone, real, labels[:, :3]))]  # fmt: skip
    assert found[0] == pytest.approx(found[1], rel=1e-5)
    relation = DistillationTerm(losses.similarity_preserving_loss, **layers)
    found = [
        value(compiled(Distiller(*pair, relation)), t, y)
        for pair, t, y in (
            ((teacher, student), tokens, labels),
            ((teacher_of(teacher), teacher_of(student)), real, labels[:, :3]),
        )
    ]
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def teacher_of(model):
    """The same layers for sequences of three tokens."""
    inputs = keras.Input((3,), dtype="int32")
    x = model.get_layer("embedding")(inputs)
    return keras.Model(inputs, model.get_layer("logits")(x))


# --- one pass, and nothing changed -----------------------------------------------------


class Counter(keras.layers.Layer):
    def __init__(self):
        super().__init__()
        self.passes = 0

    def call(self, x):
        tf.py_function(self._count, [], [])
        return x

    def _count(self):
        self.passes += 1


def test_one_pass_of_each_network_a_step():
    counters = Counter(), Counter()
    teacher, student = net(7, 0, extra=[counters[0]]), net(extra=[counters[1]])
    distiller = compiled(Distiller(teacher, student, [soft(), hint()]))
    distiller.fit(X, LABELS, batch_size=8, verbose=0)
    assert [counter.passes for counter in counters] == [3, 3]


def test_features_come_from_the_pass_that_gives_the_answer():
    """The label loss and the feature loss see one dropout mask: their difference is exact."""
    seen = {}

    def difference(*, teacher_features, student_features, student_logits):
        seen["value"] = keras.ops.sum(student_features - student_logits, axis=-1)
        return keras.ops.square(seen["value"])

    dropout = keras.layers.Dropout(0.5, name="dropout")
    inputs = keras.Input((6,))
    x = dropout(keras.layers.Dense(3)(inputs))
    student = keras.Model(inputs, keras.layers.Activation("linear", name="logits")(x))
    term = DistillationTerm(difference, student_layer="dropout")
    distiller = compiled(Distiller(net(7, 0), student, term, student_loss_weight=0.0))
    assert distiller.fit(X, verbose=0).history["difference"] == [0.0]


def test_evaluate_changes_nothing_and_has_no_noise():
    student = net(extra=[keras.layers.BatchNormalization(), keras.layers.Dropout(0.5)])
    distiller = compiled(Distiller(teacher_net(), student, [soft(), hint()]))
    before = distiller.get_weights()
    assert len({value(distiller, X, LABELS) for _ in range(3)}) == 1
    assert unchanged(before, distiller)


def test_batch_statistics_move_once_a_step():
    norm = keras.layers.BatchNormalization(momentum=0.9, name="norm")
    student = net(extra=[norm])
    hidden = keras.Model(student.input, student.get_layer("hidden").output)
    mean = np.mean(hidden(X), axis=0)
    layers = {"student_layer": "norm"}
    compiled(Distiller(teacher_net(), student, hint(**layers))).fit(
        X, LABELS, batch_size=len(X), verbose=0
    )
    np.testing.assert_allclose(norm.moving_mean, 0.1 * mean, rtol=1e-5)


def test_the_teacher_stays_as_it_is():
    teacher = teacher_net()
    before = teacher.get_weights()
    compiled(Distiller(teacher, net(), [soft(), hint()])).fit(X, LABELS, verbose=0)
    assert unchanged(before, teacher)
    assert all(layer.trainable for layer in teacher.layers)
    assert len(teacher.trainable_variables) == 6


def test_a_shared_backbone_keeps_training():
    student = net()
    head = keras.layers.Dense(3)(student.get_layer("hidden").output)
    teacher = keras.Model(student.input, head)
    distiller = compiled(Distiller(teacher, student, soft()))
    assert len(distiller.trainable_variables) == 4


# --- knobs, signals, teachers ----------------------------------------------------------


def test_knobs_and_weights_can_be_annealed_by_a_callback():
    teacher, student = teacher_net(), net()
    distiller = compiled(Distiller(teacher, student, soft(), student_loss_weight=0.5))
    value(distiller, X, LABELS)  # the step is compiled from here on

    class Anneal(keras.callbacks.Callback):
        def on_test_begin(self, logs=None):
            distiller.set_knobs("soft_target_loss", temperature=1.0)
            distiller.student_loss_weight = 0.25
            distiller.distillation_loss_weights = [4.0]

    expected = 0.25 * cross_entropy(student) + 0.75 * 4 * divergence(teacher, student, 1.0)
    found = value(distiller, X, LABELS, callbacks=[Anneal()])
    assert found == pytest.approx(expected.mean(), rel=1e-5)


@pytest.mark.parametrize("form", ["live", "dense", "top_k", "live signal", "dataset"])
def test_every_form_of_the_signal_teaches_the_same(form):
    teacher = teacher_net()
    logits = np.asarray(teacher(X))
    forms = {
        "dense": logits,
        "top_k": signals.top_k(logits, 3),
        "live signal": signals.live(teacher, X),
        "dataset": logits,
    }
    students = net(), net()
    compiled(Distiller(teacher, students[0], soft())).fit(
        X, LABELS, epochs=3, batch_size=8, shuffle=False, verbose=0
    )
    given = {"labels": LABELS, "teacher_logits": forms.get(form)}
    own = Distiller(teacher if form == "live" else None, students[1], soft())
    data = (X, LABELS) if form == "live" else (X, given)
    if form in ("top_k", "live signal", "dataset"):
        data = (signals.as_dataset(X, given, batch_size=8),)
    options = {"batch_size": 8, "shuffle": False} if len(data) == 2 else {}
    compiled(own).fit(*data, epochs=3, verbose=0, **options)
    for one, other in zip(*(s.get_weights() for s in students), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-4 if form == "top_k" else 1e-6)


def test_features_of_several_layers_are_given_by_layer():
    teacher, student = teacher_net(), net()
    wide = DistillationTerm(
        losses.similarity_preserving_loss, student_layer="hidden", teacher_layer="logits"
    )
    stored = {
        "hidden": compute_signals(teacher, X, layers="hidden").features,
        "logits": np.asarray(teacher(X)),
    }
    pair = []
    for given in (teacher, None):
        terms = [DistillationTerm(losses.similarity_preserving_loss, student_layer="hidden",
                                  teacher_layer="hidden", name="hidden"), wide]  # fmt: skip
        pair.append(compiled(Distiller(given, student, terms)))
    live = value(pair[0], X, LABELS)
    assert value(pair[1], X, {"labels": LABELS, "teacher_features": stored}) == pytest.approx(
        live, rel=1e-3
    )


def test_several_teachers_are_averaged():
    teachers, student = [teacher_net(), net(4, seed=8)], net()
    distiller = compiled(Distiller(teachers, student, soft(), student_loss_weight=0))
    expected = np.mean([divergence(teacher, student) for teacher in teachers])
    assert value(distiller, X, LABELS) == pytest.approx(expected, rel=1e-5)
    distiller = compiled(Distiller(teachers[1:], student, soft(), student_loss_weight=0))
    assert value(distiller, X) == pytest.approx(divergence(teachers[1], student).mean(), 1e-5)


def test_without_labels_no_label_loss_is_needed():
    teacher, student = teacher_net(), net()
    distiller = Distiller(teacher, student, soft(), student_loss_weight=0.0)
    distiller.compile(keras.optimizers.Adam(0.05))
    history = distiller.fit(X, epochs=60, verbose=0).history["loss"]
    assert history[-1] < 0.1 * history[0]


def test_metrics_are_means_over_examples():
    """63 examples and one: the last batch must not weigh as much as the first."""
    distiller = compiled(Distiller(teacher_net(), net(), soft()), metrics=["accuracy"])
    found = distiller.evaluate(X, LABELS, batch_size=23, verbose=0, return_dict=True)
    assert found["loss"] == pytest.approx(
        0.5 * found["student_loss"] + 0.5 * found["soft_target_loss"], rel=1e-5
    )
    predicted = np.argmax(distiller.predict(X, verbose=0), axis=1)
    assert found["accuracy"] == pytest.approx(np.mean(predicted == LABELS))


# --- kinds of models -------------------------------------------------------------------


def test_unequal_widths_and_resolutions_go_through_an_adapter():
    keras.utils.set_random_seed(0)

    def maps(channels, stride):
        inputs = keras.Input((8, 8, 1))
        x = keras.layers.Conv2D(channels, 3, stride, padding="same", name="map")(inputs)
        pooled = keras.layers.GlobalAveragePooling2D()(x)
        return keras.Model(inputs, keras.layers.Dense(3, name="logits")(pooled))

    teacher, student = maps(6, 2), maps(2, 1)
    adapter = features.projector((None, 8, 8, 2), 6, size=(4, 4))
    layers = {"student_layer": "map", "teacher_layer": "map"}
    term = DistillationTerm(losses.hint_loss, adapter=adapter, **layers)
    terms = [DistillationTerm(losses.soft_target_loss), term]
    distiller = compiled(Distiller(teacher, student, terms, student_loss_weight=0.0))
    images = RNG.normal(size=(16, 8, 8, 1)).astype("float32")
    assert len(distiller.trainable_variables) == len(student.trainable_variables) + 2
    losses_seen = distiller.fit(images, epochs=20, verbose=0).history["hint_loss"]
    assert losses_seen[-1] < losses_seen[0]


def test_layers_of_nested_models_are_found():
    student_core = net()
    inputs = keras.Input((6,))
    student = keras.Model(inputs, student_core(inputs))
    nested = hint(student_layer="net/hidden")
    flat = hint()
    flat.adapter = nested.adapter
    pair = [
        compiled(Distiller(teacher_net(), one, term))
        for one, term in ((student, nested), (student_core, flat))
    ]
    assert value(pair[0], X, LABELS) == pytest.approx(value(pair[1], X, LABELS), rel=1e-6)


def test_a_subclassed_student_gives_features_by_key():
    class Student(keras.Model):
        def __init__(self):
            super().__init__()
            self.hidden = keras.layers.Dense(5, activation="relu")
            self.head = keras.layers.Dense(3)

        def call(self, x):
            hidden = self.hidden(x)
            return {"logits": self.head(hidden), "inner": hidden}

    student = Student()
    distiller = compiled(
        Distiller(teacher_net(), student, [soft(), hint(student_layer="inner")])
    )
    before = distiller.fit(X, LABELS, verbose=0).history["loss"][0]
    assert distiller.fit(X, LABELS, epochs=20, verbose=0).history["loss"][-1] < before
    answer = distiller.predict(X, verbose=0)
    np.testing.assert_allclose(answer["logits"], student(X)["logits"], atol=1e-6)
    wrong = compiled(Distiller(teacher_net(), Student(), hint(student_layer="outer")))
    with pytest.raises(ValueError, match=r"layer must be a key of .*\['inner', 'logits'\]"):
        wrong.fit(X, LABELS, verbose=0)


def test_mixed_precision_differs_by_its_rounding_only():
    half = net(dtype="mixed_bfloat16")
    full = net()
    half.set_weights(full.get_weights())
    teacher = teacher_net()
    pair = [value(compiled(Distiller(teacher, one, soft())), X, LABELS) for one in (half, full)]
    assert pair[0] == pytest.approx(pair[1], rel=0.02)
    history = compiled(Distiller(teacher, half, soft())).fit(X, LABELS, verbose=0).history
    assert np.isfinite(history["loss"][0])


# --- saving ----------------------------------------------------------------------------


def test_training_goes_on_after_saving_as_if_it_had_not_stopped(tmp_path):
    teacher = teacher_net()
    plan = {"epochs": 3, "batch_size": 8, "shuffle": False, "verbose": 0}
    made, options = [], {"optimizer": "adam", "metrics": ["acc"]}
    for _ in range(2):
        term = hint()
        term.adapter.build((None, 5))
        term.adapter.kernel.assign(np.linspace(-1, 1, 35).reshape(5, 7))
        made.append(compiled(Distiller(teacher, net(), [soft(), term]), **options))
    whole, first = made
    whole.fit(X, LABELS, **{**plan, "epochs": 6})
    first.fit(X, LABELS, **plan)
    first.set_knobs("soft_target_loss", temperature=2.0)
    first.save(tmp_path / "half.keras")
    second = keras.models.load_model(tmp_path / "half.keras")
    assert second.get_knobs("soft_target_loss") == {"temperature": 2.0}
    second.set_knobs("soft_target_loss", temperature=3.0)
    second.set_teacher(teacher)
    second.fit(X, LABELS, **plan)
    for one, other in zip(whole.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_files_hold_neither_the_teacher_nor_in_the_students_file_the_adapter(tmp_path):
    sizes = []
    for width in (7, 700):
        student = net()
        wide = DistillationTerm(losses.soft_target_loss)
        distiller = compiled(Distiller(net(width, 0), student, wide))
        distiller.fit(X, LABELS, verbose=0)
        distiller.save(tmp_path / "distiller.keras")
        sizes.append((tmp_path / "distiller.keras").stat().st_size)
    assert abs(sizes[1] - sizes[0]) < 200
    student.save(tmp_path / "student.keras")
    loaded = keras.models.load_model(tmp_path / "student.keras", compile=False)
    assert loaded.count_params() == net().count_params()


def test_a_loaded_distiller_asks_for_its_teacher(tmp_path):
    compiled(Distiller(teacher_net(), net(), soft())).save(tmp_path / "one.keras")
    loaded = keras.models.load_model(tmp_path / "one.keras")
    with pytest.raises(ValueError, match=r"soft_target_loss must get \['teacher_logits'\]"):
        loaded.fit(X, LABELS, verbose=0)


# --- strategies ------------------------------------------------------------------------

REPLICAS = """
import sys
sys.path.insert(0, sys.argv[1])
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from test_distiller import LABELS, X, Distiller, compiled, hint, net, soft, teacher_net
import numpy as np
def trained():
    term = hint(); term.adapter.build((None, 5)); term.adapter.kernel.assign(np.ones((5, 7)))
    return compiled(Distiller(teacher_net(), net(), [soft(), term]))
plan = {"batch_size": 8, "epochs": 2, "shuffle": False, "verbose": 0}
alone = trained()
history = [alone.fit(X, LABELS, **plan).history]
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    both = trained()
history.append(both.fit(X, LABELS, **plan).history)
for one, other in zip(alone.get_weights(), both.get_weights(), strict=True):
    np.testing.assert_allclose(one, other, atol=1e-6)
for key in history[0]:
    np.testing.assert_allclose(history[0][key], history[1][key], rtol=1e-5)
"""


def test_two_replicas_train_as_one(request):
    """In a process of its own: the number of devices is fixed at the first operation."""
    folder = str(request.path.parent)
    done = subprocess.run(
        [sys.executable, "-c", REPLICAS, folder], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


# --- bad input -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"student": None}, r"student must be a keras.Model, got None"),
        ({"teacher": "big"}, r"teacher must be a keras.Model, got 'big'"),
        ({"distillation_losses": "kl"}, "distillation_losses must be DistillationTerms"),
        (
            {"distillation_loss_weights": [1.0, 2.0]},
            "must be 1 finite numbers from 0 .* got",
        ),
        ({"distillation_loss_weights": [-1.0]}, r"must be 1 finite numbers from 0 .* got \[-1"),
        ({"student_loss_weight": 1.5}, r"student_loss_weight must lie in \[0, 1\]"),
    ],
)
def test_bad_arguments_are_refused_by_name(change, message):
    options = {"teacher": teacher_net(), "student": net(), "distillation_losses": soft()}
    with pytest.raises(ValueError, match=message):
        Distiller(**{**options, **change})


def test_what_is_missing_is_named():
    distiller = Distiller(teacher_net(), net(), soft())
    distiller.compile("sgd")
    with pytest.raises(ValueError, match=r"must be 0, or else give a loss in compile"):
        distiller.fit(X, LABELS, verbose=0)
    with pytest.raises(ValueError, match=r"must be 0, or else give labels in y"):
        compiled(distiller).fit(X, verbose=0)
    given = {"teacher_logits": np.zeros((24, 3))}
    with pytest.raises(ValueError, match=r"class_weight needs y\['labels'\]"):
        distiller.fit(X, given, class_weight={0: 1.0}, verbose=0)
    with pytest.raises(ValueError, match=r"layer must be one of net, .* got \['depth'\]"):
        Distiller(teacher_net(), net(), hint(student_layer="depth"))
    with pytest.raises(ValueError, match=r"layer must be one of net, .* got \['depth'\]"):
        Distiller(teacher_net(), net(), hint(teacher_layer="depth"))
