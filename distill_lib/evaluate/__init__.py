"""Measures of quality, likeness and cost, and the verdict on a comparison over seeds."""

from distill_lib.evaluate.comparison import Comparison, compare
from distill_lib.evaluate.cost import file_size, latency, parameter_count
from distill_lib.evaluate.measures import (
    accuracy,
    agreement,
    calibration_error,
    macro_f1,
    predict_logits,
    rmse,
)
from distill_lib.evaluate.operations import operation_count

__all__ = ["Comparison", "accuracy", "agreement", "calibration_error", "compare", "file_size"]
__all__ += ["latency", "macro_f1", "operation_count", "parameter_count", "predict_logits"]
__all__ += ["rmse"]
