"""The networks have the sizes and the layer names that the book speaks of."""

import keras
import numpy as np
import pytest

from distill_lib import data, models

STAGES = [f"stage{stage}_relu{step}" for stage in range(3) for step in range(2)]


def names(model):
    return [layer.name for layer in model.layers]


def test_the_teacher_has_the_documented_size_and_names():
    teacher = models.build_teacher()
    assert teacher.count_params() == 289066
    assert sum(w.shape[0] for w in teacher.non_trainable_weights) == 896
    assert [name for name in names(teacher) if name in {*STAGES, "pooled", "logits"}] == [
        *STAGES,
        "pooled",
        "logits",
    ]
    assert teacher.output_shape == (None, 10)
    assert teacher.get_layer("stage2_relu1").output.shape == (None, 7, 7, 128)


def test_the_student_computes_two_dense_layers():
    student = models.build_student(width=3, input_shape=(2, 2, 1), output_count=4)
    x = np.random.default_rng(0).normal(size=(5, 2, 2, 1)).astype("float32")
    w1, b1, w2, b2 = student.get_weights()
    by_hand = np.maximum(x.reshape(5, 4) @ w1 + b1, 0) @ w2 + b2
    np.testing.assert_allclose(student(x), by_hand, rtol=1e-5, atol=1e-6)
    assert (w1.shape, w2.shape) == ((4, 3), (3, 4))
    assert names(student)[-2:] == ["hidden", "logits"]


def test_the_default_student_has_the_size_of_784_128_10():
    assert models.build_student().count_params() == 784 * 128 + 128 + 128 * 10 + 10


def test_the_student_takes_rows_of_a_table():
    assert models.build_student(8, input_shape=(9,), output_count=1).output_shape == (None, 1)


def test_the_small_cnn_halves_the_image_between_convolutions():
    model = models.build_small_cnn(widths=(8, 16))
    assert model.get_layer("conv0").output.shape == (None, 28, 28, 8)
    assert model.get_layer("conv1").output.shape == (None, 14, 14, 16)
    assert model.get_layer("pooled").output.shape == (None, 16)
    assert model.count_params() == (9 * 8 + 8) + (9 * 8 * 16 + 16) + (16 * 10 + 10)
    assert model.get_layer("logits").activation is keras.activations.linear


@pytest.mark.parametrize("width", [0, -1])
def test_a_width_below_one_is_refused(width):
    with pytest.raises(ValueError, match=f"width must be at least 1 everywhere, got .{width}"):
        models.build_student(width)
    with pytest.raises(ValueError, match="widths must be at least 1"):
        models.build_small_cnn(widths=(8, width))


def test_the_shipped_teacher_is_small_trained_and_fixed():
    assert data.asset("teacher.keras").stat().st_size < 2_000_000
    teacher = models.load_teacher()
    assert {*STAGES, "pooled", "logits"} <= set(names(teacher))
    assert teacher.trainable_weights == []
    assert not teacher.compiled
    part = data.load_fashion_mnist()
    x, y = part.x_validation[::4], part.y_validation[::4]
    assert np.mean(teacher.predict(x, verbose=0).argmax(axis=1) == y) > 0.9


def test_a_damaged_teacher_is_refused(tmp_path, monkeypatch):
    (tmp_path / "teacher.keras").write_bytes(b"damaged")
    (tmp_path / "SHA256SUMS").write_text("0" * 64 + "  teacher.keras\n")
    monkeypatch.setattr(data, "ASSETS", tmp_path)
    with pytest.raises(ValueError, match=r"teacher\.keras is damaged"):
        models.load_teacher()
