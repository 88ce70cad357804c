"""The FitNets hint against a loop, its gradient, and bad input."""

import numpy as np
import pytest

from distill_lib.losses import hint_loss

GENERATOR = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(3, 5), (3, 4, 5), (3, 2, 4, 5)])
def test_equals_a_loop(shape):
    teacher, student = GENERATOR.normal(size=(2, *shape))
    expected = []
    for t, s in zip(teacher, student, strict=True):
        squares = [(a - b) ** 2 for a, b in zip(t.flat, s.flat, strict=True)]
        expected.append(0.5 * sum(squares) / len(squares))
    found = hint_loss(teacher_features=teacher, student_features=student)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_gradient_is_the_difference_divided_by_the_feature_count(gradient):
    teacher, student = GENERATOR.normal(size=(2, 3, 2, 2, 4))
    found = gradient(lambda s: hint_loss(teacher_features=teacher, student_features=s), student)
    np.testing.assert_allclose(found, (student - teacher) / 16, rtol=1e-12)
    same = gradient(lambda s: hint_loss(teacher_features=teacher, student_features=s), teacher)
    np.testing.assert_array_equal(same, 0.0)


def test_half_precision_is_cast_up():
    teacher = np.full((2, 3), 300, "float16")  # 600 squared is beyond float16
    found = hint_loss(teacher_features=teacher, student_features=-teacher)
    np.testing.assert_allclose(found, [180_000.0, 180_000.0])


def test_shapes_must_fit():
    """A (1, 1, c) map broadcasts silently against (8, 8, c) in Keras's own loss."""
    with pytest.raises(ValueError, match=r"teacher_features must have .* got shape \(2, 1, 1"):
        hint_loss(
            teacher_features=np.ones((2, 1, 1, 3)), student_features=np.ones((2, 8, 8, 3))
        )
    with pytest.raises(ValueError, match=r"feature axis, got shape \(2,\)"):
        hint_loss(teacher_features=np.ones(2), student_features=np.ones(2))
