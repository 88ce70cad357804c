"""Losses, one file for each kind of knowledge: response, feature, relation."""

from distill_lib.losses.feature import hint_loss
from distill_lib.losses.reduction import weighted_mean
from distill_lib.losses.relation import distance_relation_loss
from distill_lib.losses.response import (
    hard_label_loss,
    logit_matching_loss,
    mixed_loss,
    soft_target_loss,
    soft_targets,
)

__all__ = [
    "distance_relation_loss",
    "hard_label_loss",
    "hint_loss",
    "logit_matching_loss",
    "mixed_loss",
    "soft_target_loss",
    "soft_targets",
    "weighted_mean",
]
