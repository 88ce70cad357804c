"""What may change while a distiller trains takes effect in the next step, or is refused."""

import keras
import numpy as np
import pytest
from test_distiller import (
    LABELS,
    X,
    compiled,
    cross_entropy,
    divergence,
    hint,
    net,
    soft,
    teacher_net,
    value,
)

from distill_lib.distiller import Distiller


class AfterFirstBatch(keras.callbacks.Callback):
    """Does something in the middle of an epoch of two steps, and keeps the losses."""

    def __init__(self, action):
        super().__init__()
        self.action, self.seen = action, []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(float(logs["loss"]))
        if batch == 0:
            self.action()


def losses_of_two_steps(distiller, action):
    """The loss of each of two halves, with a change between them."""
    watch = AfterFirstBatch(action)
    options = {"batch_size": 12, "shuffle": False, "verbose": 0, "callbacks": [watch]}
    distiller.fit(X, LABELS, **options)
    first, mean = watch.seen
    return first, 2 * mean - first


def made(teacher, student, weight=0.5):
    distiller = Distiller(teacher, student, soft(), student_loss_weight=weight)
    return compiled(distiller, optimizer=keras.optimizers.SGD(0.0))


def test_a_teacher_changes_within_an_epoch_and_between_fits():
    old, new, student = teacher_net(), net(4, 8), net()
    distiller = made(old, student, 0.0)
    found = losses_of_two_steps(distiller, lambda: distiller.set_teacher(new))
    expected = [divergence(old, student)[:12].mean(), divergence(new, student)[12:].mean()]
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    options = {"batch_size": 24, "verbose": 0}
    distiller.set_teacher([old, new])
    both = np.mean([divergence(one, student) for one in (old, new)])
    assert distiller.fit(X, LABELS, **options).history["loss"][0] == pytest.approx(both, 1e-5)
    assert value(distiller, X, LABELS) == pytest.approx(both, rel=1e-5)
    assert distiller.get_teacher() == [old, new]
    distiller.set_teacher(None)
    assert distiller.get_teacher() is None
    with pytest.raises(ValueError, match=r"must get \['teacher_logits'\]"):
        distiller.fit(X, LABELS, **options)


@pytest.mark.parametrize(("before", "after"), [(0.0, 0.5), (1.0, 0.0), (0.3, 0.7)])
def test_the_weight_of_the_labels_changes_within_an_epoch(before, after):
    teacher, student = teacher_net(), net()
    distiller = made(teacher, student, before)

    def change():
        distiller.student_loss_weight = after

    hard, kl = cross_entropy(student), divergence(teacher, student)
    expected = [w * hard[rows].mean() + (1 - w) * kl[rows].mean()
                for w, rows in ((before, slice(12)), (after, slice(12, 24)))]  # fmt: skip
    np.testing.assert_allclose(losses_of_two_steps(distiller, change), expected, rtol=1e-4)
    assert distiller.student_loss_weight == pytest.approx(after)


def test_a_weight_above_zero_needs_a_loss_from_then_on():
    distiller = Distiller(teacher_net(), net(), soft(), student_loss_weight=0.0)
    distiller.compile("sgd")

    def change():
        distiller.student_loss_weight = 0.5

    with pytest.raises(ValueError, match="must be 0, or else give a loss in compile"):
        losses_of_two_steps(distiller, change)


def test_the_weights_of_terms_and_knobs_change_within_an_epoch():
    teacher, student = teacher_net(), net()
    distiller = made(teacher, student, 0.0)

    def change():
        distiller.distillation_loss_weights = [4.0]
        distiller.set_knobs("soft_target_loss", temperature=1)

    expected = [
        divergence(teacher, student)[:12].mean(),
        4 * divergence(teacher, student, 1.0)[12:].mean(),
    ]
    np.testing.assert_allclose(losses_of_two_steps(distiller, change), expected, rtol=1e-4)
    assert distiller.distillation_loss_weights == (4.0,)
    assert distiller.get_knobs("soft_target_loss") == {"temperature": 1.0}


def test_a_change_of_numbers_traces_nothing_anew():
    distiller, traces = made(teacher_net(), net()), []
    plain = distiller.compute_loss

    def counting(*arguments, **options):
        traces.append(options["training"])
        return plain(*arguments, **options)

    distiller.compute_loss = counting
    for temperature in (1.0, 2.0, 3.0):
        distiller.set_knobs("soft_target_loss", temperature=temperature)
        distiller.distillation_loss_weights = [temperature]
        distiller.student_loss_weight = temperature / 4
        distiller.fit(X, LABELS, batch_size=12, epochs=2, verbose=0)
    assert traces.count(True) == 1


def test_two_distillers_share_a_term_but_neither_knobs_nor_adapter():
    term, plain = hint(), soft()
    term.adapter.build((None, 5))
    term.adapter.kernel.assign(np.ones((5, 7)))
    pair = [compiled(Distiller(teacher_net(), net(), [plain, term])) for _ in range(2)]
    pair[0].fit(X, LABELS, verbose=0)
    pair[0].set_knobs("soft_target_loss", temperature=7.0)
    assert pair[1].get_knobs("soft_target_loss") == {"temperature": 3.0}
    assert plain.knobs["temperature"] == 3.0
    kernels = [one.adapters[1].kernel.numpy() for one in pair]
    assert not (kernels[0] == 1).all()
    assert (kernels[1] == 1).all()
    assert (term.adapter.kernel.numpy() == 1).all()


def test_a_variable_is_shared_because_it_was_given():
    temperature = keras.Variable(3.0)
    pair = [Distiller(teacher_net(), net(), soft(temperature=temperature)) for _ in range(2)]
    pair[0].set_knobs("soft_target_loss", temperature=5.0)
    assert pair[1].get_knobs("soft_target_loss") == {"temperature": 5.0}


def test_an_adapter_of_several_layers_keeps_its_weights():
    inputs = keras.Input((5,))
    adapters = [
        keras.Sequential([keras.Input((5,)), keras.layers.Dense(7)]),
        keras.Model(inputs, keras.layers.Dense(7)(inputs)),
    ]
    for adapter in adapters:
        adapter.set_weights([np.full((5, 7), 3.0), np.full(7, 2.0)])
        own = Distiller(teacher_net(), net(), hint(adapter=adapter)).adapters[0]
        assert own is not adapter
        for one, other in zip(own.get_weights(), adapter.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)


class Scales(keras.layers.Layer):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def call(self, x):
        return self.factor * x


@pytest.mark.parametrize("adapter", [keras.layers.Lambda(lambda x: x), Scales(2)])
def test_an_adapter_that_cannot_be_rebuilt_is_refused(adapter):
    with pytest.raises(ValueError, match=r"adapter must be rebuilt by from_config\(get_config"):
        Distiller(teacher_net(), net(), hint(adapter=adapter))


@pytest.mark.parametrize("assigned", [net(), None, [net(), net()], "big"], ids=type)
def test_a_teacher_cannot_be_assigned_and_leaves_no_trace(assigned):
    distiller = Distiller(teacher_net(), net(), soft())
    before = len(distiller.weights), len(distiller.layers)
    with pytest.raises(ValueError, match=r"teacher must be changed by set_teacher\(model\)"):
        distiller.teacher = assigned
    assert (len(distiller.weights), len(distiller.layers)) == before
    assert not hasattr(distiller, "teacher")


def test_a_saved_distiller_has_its_present_numbers_and_adapters(tmp_path):
    distiller = compiled(Distiller(teacher_net(), net(), [soft(), hint()], [1.0, 2.0]))
    distiller.fit(X, LABELS, verbose=0)
    distiller.student_loss_weight = 0.25
    distiller.distillation_loss_weights = [3.0, 0.5]
    distiller.set_knobs("soft_target_loss", temperature=1.5)
    distiller.save(tmp_path / "one.keras")
    loaded = keras.models.load_model(tmp_path / "one.keras")
    assert loaded.student_loss_weight == 0.25
    assert loaded.distillation_loss_weights == (3.0, 0.5)
    assert loaded.get_knobs("soft_target_loss") == {"temperature": 1.5}
    for one, other in zip(distiller.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert loaded.get_teacher() is None
    teacher = teacher_net()
    for one in (distiller, loaded):
        one.set_teacher(teacher)
    assert value(loaded, X, LABELS) == pytest.approx(value(distiller, X, LABELS), rel=1e-6)


def softmax_net():
    base = net()
    return keras.Model(base.input, keras.layers.Softmax()(base.output))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda d: d.set_knobs("soft_target_loss", temperature=-1),
            "must be a finite number a",
        ),
        (lambda d: d.set_knobs("soft_target_loss", temperature=0.0), "finite number above 0"),
        (
            lambda d: d.set_knobs("soft_target_loss", temperature=True),
            r"must be numbers, got \{",
        ),
        (lambda d: d.set_knobs("soft_target_loss", temperature="hot"), "must be numbers, got"),
        (
            lambda d: d.set_knobs("soft_target_loss", power=1.0),
            r"can change are \['temp.*'power",
        ),
        (
            lambda d: d.set_knobs("kl", temperature=1.0),
            r"term_name must be one of \['soft_targ",
        ),
        (lambda d: d.get_knobs("kl"), r"term_name must be one of .* got 'kl'"),
        (lambda d: setattr(d, "distillation_loss_weights", 2.0), "be 1 finite numbers from 0"),
        (lambda d: setattr(d, "distillation_loss_weights", [-1]), "be 1 finite numbers from 0"),
        (lambda d: setattr(d, "distillation_loss_weights", [1, 1]), "be 1 finite numbers"),
        (lambda d: setattr(d, "distillation_loss_weights", ["a"]), "be 1 finite numbers"),
        (lambda d: setattr(d, "student_loss_weight", 1.5), r"must lie in \[0, 1\], got 1.5"),
        (lambda d: setattr(d, "student_loss_weight", np.nan), r"must lie in \[0, 1\], got nan"),
        (
            lambda d: setattr(d, "student_loss_weight", "half"),
            r"must lie in \[0, 1\], got half",
        ),
        (lambda d: d.set_teacher("big"), "teacher must be a keras.Model, got 'big'"),
        (lambda d: d.set_teacher(softmax_net()), "teacher must return logits"),
    ],
)
def test_bad_input_is_refused_and_changes_nothing(change, message):
    distiller = Distiller(teacher_net(), net(), soft())
    with pytest.raises(ValueError, match=message):
        change(distiller)
    assert distiller.get_knobs("soft_target_loss") == {"temperature": 3.0}
    assert distiller.distillation_loss_weights == (1.0,)
    assert distiller.student_loss_weight == 0.5
