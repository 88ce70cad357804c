"""What the Makefile would do: `make --dry-run`."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def commands(*arguments):
    """The lines that `make` would run."""
    if not shutil.which("make"):
        pytest.skip("make is not installed")
    line = ["make", "--dry-run", "--always-make", *arguments]
    # `make test` runs these tests: a make inside of a make would inherit its settings.
    outer = {"MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS", "PYTHON"}
    own = {name: value for name, value in os.environ.items() if name not in outer}
    return subprocess.run(
        line, cwd=ROOT, env=own, capture_output=True, text=True, check=True
    ).stdout.splitlines()


def test_a_named_python_has_an_environment_beside_the_default_one():
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    own, default = commands("test", f"PYTHON={sys.executable}"), commands("test")
    assert f"{sys.executable} -m venv .venv-{version}" in own
    assert "python3 -m venv .venv" in default
    assert not any(line.startswith(".venv/") for line in own)
    assert not any(line.startswith(".venv-") for line in default)


def test_shake_compares_every_notebook_under_other_rounding():
    line = commands("shake")[-1]
    assert "--nbval book " in line
    settings = dict(word.split("=") for word in line.split(" .venv/")[0].split())
    assert settings["TF_ENABLE_ONEDNN_OPTS"] == "0"
    assert settings["OMP_NUM_THREADS"] == settings["TF_NUM_INTRAOP_THREADS"] == "1"
    test = next(one for one in commands("test") if "--nbval" in one)
    assert line.endswith(test)  # the very command of `make test`
