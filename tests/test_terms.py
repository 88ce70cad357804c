"""A term: one loss function with its knobs, alone and in Keras's own distiller."""

import functools

import keras
import numpy as np
import pytest

from distill_lib import losses
from distill_lib.features import projector
from distill_lib.terms import DistillationTerm, is_number

RNG = np.random.default_rng(0)
V, Z = RNG.normal(scale=2, size=(2, 8, 3)).astype("float32")
LABELS = RNG.integers(0, 3, 8)
SIGNALS = {"labels": LABELS, "teacher_logits": V, "student_logits": Z}
WEIGHTS = np.arange(8, dtype="float32")


def expected(temperature):
    return np.asarray(losses.soft_target_loss(
        teacher_logits=V, student_logits=Z, temperature=temperature
    ))  # fmt: skip


def value_of(term, signals, sample_weight=None):
    return term.value_of(signals, dict(term.knobs), sample_weight)


def test_the_value_is_the_weighted_mean_of_the_function():
    term = DistillationTerm(losses.soft_target_loss, temperature=3.0)
    np.testing.assert_allclose(value_of(term, SIGNALS), expected(3.0).mean(), rtol=1e-5)
    weighted = value_of(term, SIGNALS, WEIGHTS)
    np.testing.assert_allclose(weighted, (WEIGHTS * expected(3.0)).mean(), rtol=1e-5)
    other = term.value_of(SIGNALS, {"temperature": keras.Variable(1.0)})
    np.testing.assert_allclose(other, expected(1.0).mean(), rtol=1e-5)


def masked(array, mask):
    tensor = keras.ops.convert_to_tensor(array)
    tensor._keras_mask = keras.ops.convert_to_tensor(mask)
    return tensor


def test_masked_steps_count_nowhere_in_logits_and_features():
    v, z = RNG.normal(size=(2, 4, 5, 3)).astype("float32")
    mask = np.array([[True] * n + [False] * (5 - n) for n in (5, 2, 1, 3)])
    z[~mask] = np.nan
    term = DistillationTerm(losses.soft_target_loss)
    kept = {"teacher_logits": v[mask], "student_logits": z[mask]}
    found = value_of(term, {"teacher_logits": v, "student_logits": masked(z, mask)})
    np.testing.assert_allclose(found, value_of(term, kept), rtol=1e-5)
    for loss in (losses.hint_loss, losses.distance_relation_loss):
        term = DistillationTerm(loss)
        kept = {"teacher_features": v[mask], "student_features": z[mask]}
        found = value_of(term, {"teacher_features": v, "student_features": masked(z, mask)})
        np.testing.assert_allclose(found, value_of(term, kept), rtol=1e-5)


def test_a_mask_of_examples_counts_examples():
    v, z = RNG.normal(size=(2, 6, 3)).astype("float32")
    mask = np.array([True, False, True, True, False, True])
    for loss in (losses.hint_loss, losses.distance_relation_loss):
        kept = {"teacher_features": v[mask], "student_features": z[mask]}
        given = {"teacher_features": v, "student_features": masked(z, mask)}
        found = value_of(DistillationTerm(loss), given)
        np.testing.assert_allclose(found, value_of(DistillationTerm(loss), kept), rtol=1e-5)


def test_a_function_may_sum_over_the_steps_itself():
    """Then its values belong to sequences; one without a real step counts nowhere."""
    v, z = RNG.normal(size=(2, 3, 4, 5)).astype("float32")
    tokens = RNG.integers(0, 5, (3, 4))
    mask = np.array([[True] * n + [False] * (4 - n) for n in (4, 2, 0)])
    term = DistillationTerm(losses.policy_gradient_loss)
    signals = {"tokens": tokens, "teacher_logits": v, "student_logits": masked(z, mask)}
    values = losses.policy_gradient_loss(
        tokens=tokens, teacher_logits=v, student_logits=z, mask=mask
    )
    np.testing.assert_allclose(value_of(term, signals), np.sum(values) / 2, rtol=1e-5)


def test_a_function_of_everything_gets_everything():
    seen = {}

    def everything(**signals):
        seen.update(signals)
        return keras.ops.sum(signals["student_logits"], axis=-1)

    found = value_of(DistillationTerm(everything), SIGNALS)
    np.testing.assert_allclose(found, Z.sum(axis=-1).mean(), rtol=1e-5)
    assert seen.keys() == SIGNALS.keys()


def test_names_are_those_of_functions_and_arguments():
    partial = functools.partial(losses.soft_target_loss, temperature=3.0)
    term = DistillationTerm(partial)
    assert term.name == "partial"
    np.testing.assert_allclose(value_of(term, SIGNALS), expected(3.0).mean(), rtol=1e-5)
    term = DistillationTerm(losses.soft_target_loss, temperature=3.0)
    assert term.name == "soft_target_loss"
    registered = keras.saving.get_registered_name(losses.soft_target_loss)
    assert registered == "distill_lib>soft_target_loss"


def test_in_keras_features_are_the_outputs():
    term = DistillationTerm(losses.hint_loss)
    hint = np.mean(losses.hint_loss(teacher_features=V, student_features=Z))
    np.testing.assert_allclose(term.compute_loss(V, Z), hint, rtol=1e-5)


def test_a_term_knows_what_it_needs_and_does_not_change():
    term = DistillationTerm(losses.mixed_loss, temperature=2.0)
    assert term.needs == {"labels", "teacher_logits", "student_logits"}
    assert term.lacks({"labels": LABELS}) == ["student_logits", "teacher_logits"]
    assert term.uses("labels")
    assert not term.uses("mask")
    with pytest.raises(TypeError, match="does not support item assignment"):
        term.knobs["temperature"] = 1.0


def test_a_term_says_what_it_is():
    term = DistillationTerm(losses.hint_loss, student_layer="a", teacher_layer="b")
    assert repr(term) == "DistillationTerm(hint_loss, student_layer='a', teacher_layer='b')"
    term = DistillationTerm(losses.soft_target_loss, temperature=4.0)
    assert repr(term) == "DistillationTerm(soft_target_loss, temperature=4.0)"


def test_numbers_can_change_and_flags_cannot():
    assert is_number(2)
    assert is_number(np.float32(2))
    assert not is_number(True)
    assert not is_number([1.0])


def test_an_adapter_comes_back_from_the_config():
    term = DistillationTerm(losses.hint_loss, adapter=projector((None, 5), 7))
    again = DistillationTerm.from_config(term.get_config())
    assert isinstance(again.adapter, keras.layers.Dense)
    assert (again.adapter.units, again.adapter.name) == (7, "projector")


def network(seed):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])


def test_it_mends_the_default_of_keras():
    """There, the string default compares raw logits: the loss is another number."""
    x = RNG.normal(size=(8, 4)).astype("float32")
    teacher, student = network(0), network(1)
    found = {}
    for name, term in {
        "ours": DistillationTerm(losses.soft_target_loss, temperature=4.0),
        "default": keras.distillation.LogitsDistillation(temperature=4.0),
    }.items():
        distiller = keras.distillation.Distiller(
            teacher, student, term, student_loss_weight=0.0
        )
        distiller.compile("sgd", loss="mse")
        found[name] = distiller.evaluate(x, np.zeros((8, 3)), verbose=0, return_dict=True)[
            "loss"
        ]
    pair = {"teacher_logits": teacher(x), "student_logits": student(x)}
    right = np.mean(losses.soft_target_loss(**pair, temperature=4.0))
    assert found["ours"] == pytest.approx(right, rel=1e-5)
    assert found["default"] != pytest.approx(right, rel=0.1)


@pytest.mark.parametrize("options", [{"student_layer": "a"}, {"adapter": projector((2, 3), 3)}])
def test_keras_is_refused_what_it_does_not_give(options):
    term = DistillationTerm(losses.hint_loss, **options)
    with pytest.raises(ValueError, match=r"must use none of \['.*'\] in Keras's Distiller"):
        keras.distillation.Distiller(network(0), network(1), term)
    with pytest.raises(ValueError, match=r"none of \['labels'\]"):
        keras.distillation.Distiller(
            network(0), network(1), DistillationTerm(losses.mixed_loss)
        )


def test_the_config_gives_the_term_back_with_its_present_knobs():
    term = DistillationTerm(
        losses.attention_transfer_loss, student_layer="a/b", teacher_layer="c", name="at",
        power=3.0, squared=True,
    )  # fmt: skip
    term = term.with_knobs({"power": keras.Variable(1.5)})
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(term))
    assert again.function is losses.attention_transfer_loss
    assert (again.student_layer, again.teacher_layer, again.name) == ("a/b", "c", "at")
    assert dict(again.knobs) == {"power": 1.5, "squared": True}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: DistillationTerm(losses.hint_loss, power=2.0),
            r"arguments of hint_loss, got \['p",
        ),
        (lambda: DistillationTerm(np.mean), "function must take student_logits or the like"),
        (
            lambda: DistillationTerm(losses.soft_target_loss, student_layer="a"),
            "student_layer needs a function of student_features, got soft_target_loss",
        ),
        (
            lambda: DistillationTerm(losses.soft_target_loss, teacher_layer="a"),
            "teacher_layer needs a function of teacher_features",
        ),
        (
            lambda: value_of(DistillationTerm(losses.soft_target_loss), {"student_logits": Z}),
            r"soft_target_loss must get \['teacher_logits'\], got \['student_logits'\]",
        ),
        (
            lambda: DistillationTerm(losses.soft_target_loss, temperature=0.0),
            "temperature must be a finite number above 0, got 0",
        ),
    ],
)
def test_bad_input_is_refused_by_name(make, message):
    with pytest.raises(ValueError, match=message):
        make()
