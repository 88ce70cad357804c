"""Tokens: masks of the student and the teacher, given ones, weights, metrics, adapters."""

import keras
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from test_distiller_masks import LOSS, SOFT, assert_close, compiled, trained

from distill_lib import losses
from distill_lib.distiller import Distiller
from distill_lib.terms import DistillationTerm

RNG = np.random.default_rng(7)
IDS, TAGS = RNG.integers(1, 9, (6, 5)), RNG.integers(0, 3, (6, 5))
LAYERS = {"student_layer": "embedding", "teacher_layer": "embedding"}
HINT = DistillationTerm(losses.hint_loss, **LAYERS)


class Marks(keras.layers.Layer):
    """Says that one kind of token does not count."""

    def __init__(self, without):
        super().__init__()
        self.without = without

    def call(self, ids):
        return keras.ops.copy(ids)

    def compute_mask(self, ids, previous_mask=None):
        return None if self.without is None else keras.ops.not_equal(ids, self.without)


def tagger(seed, without=None, steps=5, pooled=False, width=4):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((steps,), dtype="int32")
    x = Marks(without)(inputs)
    embedding = keras.layers.Embedding(
        9, width, keras.initializers.RandomNormal(stddev=1.0), name="embedding"
    )
    embedding.supports_masking = True
    embedding.compute_mask = lambda ids, mask=None: mask
    x = embedding(x)
    x = keras.layers.GlobalAveragePooling1D()(x) if pooled else x
    return keras.Model(inputs, keras.layers.Dense(3, name="logits")(x))


def logs_of(teacher, student, terms, y=TAGS, **options):
    return trained(student, terms, IDS, y, teacher, **options)[0]


def parts(teacher, student):
    """The losses of each token: of the label, of the logits, of the features."""
    v, z = teacher.predict(IDS, verbose=0), student.predict(IDS, verbose=0)
    hard = losses.hard_label_loss(labels=TAGS, student_logits=z)
    soft = losses.soft_target_loss(teacher_logits=v, student_logits=z, temperature=3.0)
    f = [one.get_layer("embedding").get_weights()[0][IDS] for one in (teacher, student)]
    return np.asarray(hard), np.asarray(soft), 0.5 * np.square(f[0] - f[1]).mean(axis=-1)


@pytest.mark.parametrize(("of_student", "of_teacher"), [(1, None), (None, 2), (1, 2), (3, 3)])
@pytest.mark.parametrize("given", [False, True])
def test_masks_of_student_teacher_and_y_meet_in_the_terms(of_student, of_teacher, given):
    teacher, student = tagger(0, of_teacher), tagger(1, of_student)
    hard, soft, hint = parts(teacher, student)
    own, mask = np.ones((6, 5), bool), RNG.integers(0, 2, (6, 5)).astype(bool)
    y = {"labels": TAGS, "mask": mask} if given else TAGS
    if given:
        own &= mask
    if of_student:
        own &= of_student != IDS
    both = own & (of_teacher != IDS) if of_teacher else own
    logs = logs_of(teacher, student, [SOFT, HINT], y, metrics=["accuracy"])
    z = tagger(1).predict(IDS, verbose=0)
    assert logs["student_loss"] == pytest.approx(hard[own].mean(), rel=1e-4)
    assert logs["soft_target_loss"] == pytest.approx(soft[both].mean(), rel=1e-4)
    assert logs["hint_loss"] == pytest.approx(hint[both].mean(), rel=1e-4)
    assert logs["accuracy"] == pytest.approx((z.argmax(-1) == TAGS)[own].mean(), rel=1e-5)


@pytest.mark.parametrize("rows", [6, 5], ids=["6 x 5", "as many rows as steps"])
@pytest.mark.parametrize("said_by", ["mask", "weight"])
def test_an_example_may_be_a_whole_sequence(rows, said_by):
    """Keras repeats (batch,) along the steps: an error, or wrong where the sizes agree."""
    kept = np.array([True, False, True, True, False, True])[:rows]
    teacher, student = tagger(0), tagger(1)
    hard, soft, _ = (part[:rows] for part in parts(teacher, student))
    y = {"labels": np.where(kept[:, None], TAGS[:rows], 255)}
    y["teacher_logits"] = teacher.predict(IDS[:rows], verbose=0)
    y["teacher_logits"][~kept] = np.nan
    weights, options = None, {"metrics": ["accuracy"]}
    if said_by == "mask":
        y["mask"] = kept
    else:
        weights = kept / kept.mean()
        options["weighted_metrics"] = [keras.metrics.SparseCategoricalAccuracy(name="weighted")]
    z = student.predict(IDS[:rows], verbose=0)
    logs, _ = trained(student, SOFT, IDS[:rows], y, sample_weight=weights, **options)
    assert logs["student_loss"] == pytest.approx(hard[kept].mean(), rel=1e-4)
    assert logs["soft_target_loss"] == pytest.approx(soft[kept].mean(), rel=1e-4)
    right = (z.argmax(-1) == TAGS[:rows])[kept].mean()
    assert logs["accuracy"] == pytest.approx(right, rel=1e-5)
    assert logs.get("weighted", right) == pytest.approx(right, rel=1e-5)


@pytest.mark.parametrize("in_y", [False, True])
def test_weights_of_tokens_are_those_of_keras(in_y):
    teacher, student = tagger(0), tagger(1)
    hard, soft, hint = parts(teacher, student)
    weights = RNG.integers(0, 3, (6, 5)).astype("float32")
    y = {"labels": TAGS, "teacher_logits": teacher.predict(IDS, verbose=0)} if in_y else TAGS
    terms = [SOFT] if in_y else [SOFT, HINT]
    distiller = compiled(Distiller(None if in_y else teacher, student, terms))
    for call in (distiller.evaluate, distiller.fit):
        options = {} if call == distiller.fit else {"return_dict": True}
        logs = call(IDS, y, sample_weight=weights, batch_size=6, verbose=0, **options)
        logs = logs if isinstance(logs, dict) else {k: v[0] for k, v in logs.history.items()}
        assert logs["student_loss"] == pytest.approx((weights * hard).mean(), rel=1e-4)
        assert logs["soft_target_loss"] == pytest.approx((weights * soft).mean(), rel=1e-4)
        if not in_y:
            assert logs["hint_loss"] == pytest.approx((weights * hint).mean(), rel=1e-4)


@pytest.mark.parametrize("ignored", [-100, 255])
@pytest.mark.parametrize("in_list", [False, True])
def test_an_ignored_class_counts_nowhere(ignored, in_list):
    teacher, student = tagger(0), tagger(1)
    hard, soft, hint = parts(teacher, student)
    kept = RNG.integers(0, 2, (6, 5)).astype(bool)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=ignored)
    y = np.where(kept, TAGS, ignored).astype("uint8" if ignored > 0 else "int32")
    options = {"loss": [loss] if in_list else loss, "metrics": ["accuracy"]}
    z = student.predict(IDS, verbose=0)
    logs = logs_of(teacher, student, [SOFT, HINT], y, **options)
    assert logs["student_loss"] == pytest.approx(hard[kept].mean(), rel=1e-4)
    assert logs["soft_target_loss"] == pytest.approx(soft[kept].mean(), rel=1e-4)
    assert logs["hint_loss"] == pytest.approx(hint[kept].mean(), rel=1e-4)
    assert logs["accuracy"] == pytest.approx((z.argmax(-1) == TAGS)[kept].mean(), rel=1e-5)


def test_a_mask_lost_by_a_residual_sum_can_be_given():
    keras.utils.set_random_seed(1)
    inputs = keras.Input((5,), dtype="int32")
    x = keras.layers.Embedding(9, 4, mask_zero=True)(inputs)
    x = x + keras.ops.relu(x)
    student = keras.Model(inputs, keras.layers.Dense(3)(x))
    ids = IDS.copy()
    ids[:, 3:] = 0
    y = {"labels": TAGS, "teacher_logits": RNG.normal(size=(6, 5, 3)).astype("float32")}
    short = keras.Input((3,), dtype="int32")
    alone = keras.Model(short, student.layers[-1](_sum(student, short)))
    weights = student.get_weights()
    expected = trained(alone, SOFT, ids[:, :3], {k: v[:, :3] for k, v in y.items()})
    student.set_weights(weights)
    assert_close(trained(student, SOFT, ids, {**y, "mask": ids > 0}), expected)


def _sum(student, inputs):
    x = student.layers[1](inputs)
    return x + keras.ops.relu(x)


def test_a_mask_of_steps_leaves_the_classes_of_pooled_logits_alone():
    """Three steps and three classes: the mask must not be taken for one of classes."""
    student, mask = tagger(1, steps=3, pooled=True), np.array([[1, 1, 0], [1, 0, 0]], bool)
    z = student.predict(IDS[:2, :3], verbose=0)
    hard = np.mean(losses.hard_label_loss(labels=TAGS[:2, 0], student_logits=z))
    y = {"labels": TAGS[:2, 0], "mask": mask, "teacher_logits": z[::-1]}
    soft = losses.soft_target_loss(teacher_logits=z[::-1], student_logits=z, temperature=3.0)
    logs, _ = trained(student, SOFT, IDS[:2, :3], y)
    assert logs["student_loss"] == pytest.approx(hard, rel=1e-5)
    assert logs["soft_target_loss"] == pytest.approx(np.mean(soft), rel=1e-4)


# --- adapters -----------------------------------------------------------------------------


class Scales(keras.layers.Layer):
    """A layer of somebody else's, which knows nothing of masks."""

    def __init__(self, factor=2.0, **options):
        super().__init__(**options)
        self.factor = factor

    def call(self, x):
        return self.factor * x

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


@pytest.mark.parametrize("loss", [losses.hint_loss, losses.distance_relation_loss])
@pytest.mark.parametrize("adapter", [keras.layers.Conv1D(4, 1), Scales()], ids=["conv", "own"])
def test_an_adapter_that_loses_the_mask_gets_it_back(adapter, loss):
    """The logits are pooled and have no mask, so that only the features know of the padding."""
    student, kept = tagger(1, 3, pooled=True), IDS != 3
    stored = RNG.normal(size=(6, 5, 4)).astype("float32")
    stored[~kept] = np.nan
    term = DistillationTerm(loss, student_layer="embedding", adapter=adapter)
    distiller = compiled(Distiller(None, student, term), optimizer=keras.optimizers.SGD(0.0))
    assert not adapter.supports_masking
    y = {"labels": TAGS[:, 0], "teacher_features": stored}
    logs = distiller.fit(IDS, y, batch_size=6, verbose=0).history
    adapted = np.asarray(
        distiller.adapters[0](student.get_layer("embedding").get_weights()[0][IDS])
    )
    expected = np.mean(loss(teacher_features=stored[kept], student_features=adapted[kept]))
    assert logs[loss.__name__][0] == pytest.approx(expected, rel=1e-4)


def test_an_adapter_that_changes_the_steps_is_refused():
    term = DistillationTerm(
        losses.hint_loss, student_layer="embedding", adapter=keras.layers.Conv1D(4, 2, 2)
    )
    with pytest.raises(ValueError, match="adapter must keep the steps of its input"):
        Distiller(None, tagger(1, 3), term)


# --- metrics ------------------------------------------------------------------------------


@pytest.mark.parametrize("said_by", ["mask", "weight", "student"])
def test_metrics_that_know_no_masks_see_what_counts_alone(said_by):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5,), dtype="int32")
    x = keras.layers.Embedding(9, 4, mask_zero=said_by == "student")(inputs)
    wide = keras.initializers.RandomNormal(stddev=100.0)  # not `100 * x`, which loses the mask
    student = keras.Model(inputs, keras.layers.Dense(1, kernel_initializer=wide)(x))
    ids, kept = IDS.copy(), np.random.default_rng(0).integers(0, 2, (6, 5)).astype(bool)
    ids[~kept] = 0
    labels = np.where(kept, TAGS > 0, 1).astype("float32")[..., None]
    auc = keras.metrics.AUC(from_logits=True, num_thresholds=20000, name="auc")
    metrics = [auc, keras.metrics.Precision(thresholds=0.0, name="precision")]
    distiller = Distiller(None, student, student_loss_weight=1.0)
    distiller.compile("sgd", keras.losses.BinaryCrossentropy(from_logits=True), metrics=metrics)
    y = {"labels": labels, "mask": kept} if said_by == "mask" else {"labels": labels}
    weight = kept.astype("float32") if said_by == "weight" else None
    logs = distiller.evaluate(ids, y, sample_weight=weight, verbose=0, return_dict=True)
    z, true = student.predict(ids, verbose=0)[kept][:, 0], labels[kept][:, 0]
    assert logs["auc"] == pytest.approx(roc_auc_score(true, z), abs=2e-3)
    assert logs["precision"] == pytest.approx(true[z > 0].mean(), rel=1e-5)


def test_a_metric_that_is_weighted_has_both_the_weights_and_the_mask():
    student, weights = tagger(1, 3), RNG.uniform(0.5, 2, (6, 5)).astype("float32")
    weights[0] = 0
    metric = keras.metrics.SparseCategoricalAccuracy
    distiller = Distiller(None, student, student_loss_weight=1.0)
    distiller.compile("sgd", LOSS, metrics=[metric("one")], weighted_metrics=[metric("two")])
    logs = distiller.evaluate(IDS, TAGS, sample_weight=weights, verbose=0, return_dict=True)
    right = student.predict(IDS, verbose=0).argmax(-1) == TAGS
    kept = (IDS != 3) & (weights > 0)
    assert logs["one"] == pytest.approx(right[kept].mean(), rel=1e-5)
    expected = np.average(right[kept], weights=weights[kept])
    assert logs["two"] == pytest.approx(expected, rel=1e-5)


def test_a_metric_without_values_of_examples_is_refused_where_something_is_masked():
    def of_the_batch(labels, predicted):
        return keras.ops.mean(keras.ops.abs(predicted))

    distiller = Distiller(None, tagger(1, 3), student_loss_weight=1.0)
    distiller.compile("sgd", LOSS, metrics=[of_the_batch])
    with pytest.raises(ValueError, match=r"give each example a value .* \['of_the_batch'\]"):
        distiller.evaluate(IDS, TAGS, verbose=0)
    unmasked = Distiller(None, tagger(1), student_loss_weight=1.0)
    unmasked.compile("sgd", LOSS, metrics=[of_the_batch])
    unmasked.evaluate(IDS, TAGS, verbose=0)


def test_predictions_without_a_last_axis_cannot_be_weighted():
    """Keras takes the mean of their squared errors over the batch, and weighs that."""
    inputs = keras.Input((5,))
    student = keras.Model(inputs, keras.layers.Reshape(())(keras.layers.Dense(1)(inputs)))
    distiller = Distiller(None, student, student_loss_weight=1.0)
    distiller.compile("sgd", "mse")
    logs = distiller.evaluate(IDS / 9, TAGS[:, 0], verbose=0, return_dict=True)
    expected = np.square(student.predict(IDS / 9, verbose=0) - TAGS[:, 0]).mean()
    assert logs["loss"] == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ValueError, match="answer must have a last axis, such as that of Dense"):
        distiller.evaluate(IDS / 9, TAGS[:, 0], sample_weight=np.ones(6), verbose=0)
