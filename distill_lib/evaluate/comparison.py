"""The verdict on a comparison of two ways of training over paired seeds."""

from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Comparison:
    """A mean paired difference, candidate minus control, with its interval and verdict."""

    difference: float
    low: float
    high: float
    verdict: str
    pairs: int

    def __str__(self):
        numbers = (self.difference, self.low, self.high)
        negligible = 1e-6 * (self.high - self.low)  # what rounding leaves of zero
        numbers = [0.0 if abs(number) < negligible else number for number in numbers]
        digits = _digits(numbers)
        difference, low, high = (f"{number:.{digits}f}" for number in numbers)
        sign = "" if difference.startswith("-") else "+"
        return f"{sign}{difference} [{low}, {high}] {self.verdict} ({self.pairs} pairs)"


def compare(candidate, control, *, higher_is_better=True, confidence=0.95):
    """Compare two ways of training over paired seeds.

    The interval is Student's t for the mean of the differences, so it takes them as
    independent and roughly normal. The verdict is "better" or "worse" if the interval leaves
    out zero, else "cannot tell"; so it is, with [0, 0], if the two are equal in every pair.
    What is the same in every run, such as bytes, needs no interval: compare it with ``<``.

    Args:
        candidate: one number for each of two or more seeds, such as accuracies.
        control: as many numbers, of the same seeds. Two pandas Series are paired by their
            indexes, whatever their order; otherwise the order must be the same.
        higher_is_better: ``False`` for errors and seconds.
        confidence: coverage of the interval, between 0 and 1.

    Raises:
        ValueError: for other shapes, numbers that are not finite, two indexes that do not hold
            the same entries once each, a confidence out of range, and differences that are
            equal (up to rounding) but not zero: they have no spread to make an interval of.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence}")
    one, two = _pairs(candidate, control)
    differences = one - two
    negligible = _rounding(np.concatenate([one, two]))
    if np.abs(differences).max() <= negligible:
        return Comparison(0.0, 0.0, 0.0, "cannot tell", len(one))
    if np.ptp(differences) <= negligible:
        rule = "candidate and control must differ by more than one constant"
        got = f"{differences[0]:g} in each of {len(one)} pairs"
        raise ValueError(f"{rule}: without spread there is no interval, got {got}")
    mean = float(differences.mean())
    quantile = stats.t.ppf((1 + confidence) / 2, df=len(one) - 1)
    half_width = float(quantile * stats.sem(differences))
    low, high = mean - half_width, mean + half_width
    if low <= 0 <= high:
        verdict = "cannot tell"
    else:
        verdict = "better" if (low > 0) == higher_is_better else "worse"
    return Comparison(mean, low, high, verdict, len(one))


def _pairs(candidate, control):
    """Return the numbers of both as two arrays in the same order."""
    if hasattr(candidate, "loc") and hasattr(control, "loc"):  # of pandas
        unique = candidate.index.is_unique and control.index.is_unique
        if not unique or set(candidate.index) != set(control.index):
            rule = "candidate and control must have the same index, each entry once"
            got = f"{list(candidate.index)} and {list(control.index)}"
            raise ValueError(f"{rule}, got {got}")
        control = control.loc[candidate.index]
    one, two = np.asarray(candidate, "float64"), np.asarray(control, "float64")
    if one.ndim != 1 or one.shape != two.shape or len(one) < 2:
        rule = "candidate and control must be two or more pairs"
        raise ValueError(f"{rule}, got shapes {one.shape} and {two.shape}")
    if not np.isfinite([one, two]).all():
        raise ValueError(f"candidate and control must be finite, got {one}, {two}")
    return one, two


def _rounding(numbers):
    """Return a bound of the rounding error in a difference of two of the numbers."""
    is_single = np.array_equal(numbers, numbers.astype("float32"))
    precision = np.finfo("float32" if is_single else "float64").eps
    return 4 * precision * np.abs(numbers).max()


def _digits(numbers):
    """Return how many decimals show every sign and tell the two ends apart: three or more."""
    for digits in range(3, 300):
        shown = [round(number, digits) for number in numbers]
        no_sign_is_lost = shown.count(0) == numbers.count(0)
        if no_sign_is_lost and len(set(shown[1:])) == len(set(numbers[1:])):
            break
    return digits
