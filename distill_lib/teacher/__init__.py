"""A teacher's answers to a data set: computed once, stored, and refused when they are stale."""

from distill_lib.teacher.answers import (
    TeacherAnswers,
    cached_signals,
    compute_signals,
    load_teacher_logits,
)

__all__ = ["TeacherAnswers", "cached_signals", "compute_signals", "load_teacher_logits"]
