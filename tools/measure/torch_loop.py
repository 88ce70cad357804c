"""The live loop of the bench in PyTorch: the same networks, data and number of updates.

For each line on standard input one epoch, and its seconds on standard output. It runs with an
interpreter that has PyTorch and NumPy, which are no dependencies of the book; weights are new
ones, for the time does not depend on their values.
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

TEMPERATURE, LABEL_WEIGHT = 3.0, 0.5
DATA = Path(__file__).parents[2] / "distill_lib" / "assets" / "fashion_mnist.npz"


def build_teacher(widths=(32, 64, 128)):
    """As `distill_lib.models.build_teacher`."""
    parts, before = [], 1
    for stage, width in enumerate(widths):
        for _ in range(2):
            parts += [nn.Conv2d(before, width, 3, padding=1, bias=False)]
            parts += [nn.BatchNorm2d(width), nn.ReLU()]
            before = width
        parts += [nn.MaxPool2d(2)] if stage < len(widths) - 1 else []
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 10))


def build_student(width=128):
    """As `distill_lib.models.build_student`."""
    return nn.Sequential(nn.Flatten(), nn.Linear(784, width), nn.ReLU(), nn.Linear(width, 10))


def loss_of(teacher_logits, student_logits, labels):
    log_p, log_q = (
        functional.log_softmax(logits / TEMPERATURE, dim=1)
        for logits in (teacher_logits, student_logits)
    )
    soft = functional.kl_div(log_q, log_p, reduction="batchmean", log_target=True)
    hard = functional.cross_entropy(student_logits, labels)
    return LABEL_WEIGHT * hard + (1 - LABEL_WEIGHT) * TEMPERATURE**2 * soft


def epoch(teacher, student, optimizer, images, labels, batch):
    for rows in torch.randperm(len(images)).split(batch):
        with torch.no_grad():
            teacher_logits = teacher(images[rows])
        loss = loss_of(teacher_logits, student(images[rows]), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def main(count, batch):
    with np.load(DATA, allow_pickle=False) as arrays:
        pixels, labels = arrays["x_train"][:count], arrays["y_train"][:count]
    images = torch.tensor(pixels.reshape(-1, 1, 28, 28) / 255, dtype=torch.float32)
    labels = torch.tensor(labels.astype("int64"))
    teacher, student = build_teacher().eval(), build_student()
    optimizer = torch.optim.Adam(student.parameters())
    for _ in sys.stdin:
        began = time.perf_counter()
        epoch(teacher, student, optimizer, images, labels, batch)
        print(time.perf_counter() - began, flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
