"""The benchmarks can be found and say what they compare; that they are fast is not for a test to say."""

import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import benchmarks
from benchmarks.suite import NAMES, targets

ROOT = Path(__file__).resolve().parents[1]


def test_every_benchmark_says_what_it_compares_and_what_it_should_reach() -> None:
    for name in NAMES:
        assert importlib.import_module(f"benchmarks.{name}").__doc__, name
        assert targets(name), name


def test_every_module_that_has_targets_is_run() -> None:
    modules = [importlib.import_module(f"benchmarks.{each.name}") for each in pkgutil.iter_modules(benchmarks.__path__)]
    assert {each.__name__.rpartition(".")[2] for each in modules if hasattr(each, "TARGETS")} == set(NAMES)


def test_the_list_names_every_benchmark_and_runs_none() -> None:
    command = [sys.executable, "-m", "benchmarks", "--list"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {line.split()[0] for line in listed.splitlines()[2:]} == set(NAMES)


def test_a_name_that_is_no_benchmark_is_refused_with_those_that_are() -> None:
    command = [sys.executable, "-m", "benchmarks", "wriet"]
    refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "wriet" in refused.stderr
    assert "range_run" in refused.stderr
