"""Measures of quality, likeness and cost, and the verdict on a comparison over seeds."""

from distill_lib.evaluate.comparison import Comparison, compare
from distill_lib.evaluate.cost import file_size, latency, operation_count, parameter_count
from distill_lib.evaluate.measures import (
    accuracy,
    agreement,
    calibration_error,
    macro_f1,
    predict_logits,
    rmse,
)
