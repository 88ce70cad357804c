"""A teacher's answers as values that losses take: running live, or stored in three forms.

Answers are a plain array ``(n, ...)`` or a :class:`~distill_lib.signals.stored.StoredSignal`.
Row i belongs to row i of the inputs. :func:`take` reads rows by their numbers, in any order,
and decodes them into dense rows, so every loss takes every form. :mod:`distill_lib.teacher`
computes answers and keeps them in files.
"""

from distill_lib.signals.checks import reorder_classes
from distill_lib.signals.data_set import as_dataset, live
from distill_lib.signals.forms import dense, sample, top_k
from distill_lib.signals.stored import StoredSignal, as_stored, joined, take

__all__ = ["StoredSignal", "as_dataset", "as_stored", "dense", "joined", "live"]
__all__ += ["reorder_classes", "sample", "take", "top_k"]
