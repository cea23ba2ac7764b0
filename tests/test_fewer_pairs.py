"""The benchmark of kernels with a part of their entries: its approximations, and a small run of the script."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kernel_gen import gram

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "fewer_pairs.py"
N, T = 40, 7


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("fewer_pairs", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def correlations(benchmark, kernel, **settings):
    rows = np.random.default_rng(0).standard_normal((N + T, 5))
    whole = gram(kernel, rows, dtype="float64", **settings)
    return benchmark.normalised(whole[:N, :N], whole[N:, :N], np.diag(whole)[N:])


@pytest.fixture
def exact(benchmark):
    return correlations(benchmark, "NTK", num_layers=3)


@pytest.fixture
def cheap(benchmark):
    return correlations(benchmark, "GAUSSIAN", bandwidth=2.0)


def test_correlations_have_a_diagonal_of_ones_and_do_not_exceed_it(exact):
    np.testing.assert_allclose(np.diag(exact[0]), 1, rtol=1e-12)
    assert np.abs(exact[1]).max() <= 1


def test_a_completed_kernel_is_exact_in_its_columns_and_positive(benchmark, exact, cheap):
    chosen = np.array([3, 1, 30, 17, 8])
    train, test = benchmark.completed(cheap, exact, chosen)
    for found, there, far in zip((train, test), exact, cheap, strict=True):
        np.testing.assert_allclose(found[:, chosen], there[:, chosen], atol=1e-7)
        assert np.abs(found - there).max() > 0.01 < np.abs(far - there)[:, chosen].max()
    assert np.linalg.eigvalsh(train).min() > -1e-7


def test_a_completed_kernel_with_all_columns_is_exact(benchmark, exact, cheap):
    for found, there in zip(benchmark.completed(cheap, exact, np.arange(N)), exact, strict=True):
        np.testing.assert_allclose(found, there, atol=1e-6)


def test_a_fit_finds_a_sum_of_powers_from_few_columns(benchmark, cheap):
    exact = tuple(0.6 * one + 0.4 * one**3 for one in cheap)
    found, share = benchmark.fitted([cheap], exact, np.array([2, 5, 11]))
    assert share > 0.999999
    for one, there in zip(found, exact, strict=True):
        np.testing.assert_allclose(one, there, atol=1e-4)


def test_a_fit_of_an_unrelated_kernel_is_positive_and_explains_less(benchmark, exact, cheap):
    (train, _), share = benchmark.fitted([cheap], exact, np.array([2, 5, 11]))
    assert np.linalg.eigvalsh(train).min() > -1e-9
    assert share < 0.99


def test_predictions_are_those_of_a_direct_solution(benchmark, exact):
    targets, ridges = np.random.default_rng(1).standard_normal((N, 3)), np.array([0.01, 1.0])
    for found, ridge in zip(benchmark.predictions(*exact, targets, ridges), ridges, strict=True):
        np.testing.assert_allclose(
            found, exact[1] @ np.linalg.solve(exact[0] + ridge * np.eye(N), targets), rtol=1e-8, atol=1e-10
        )


@pytest.mark.slow
def test_a_small_run_compares_all_approximations(directories):
    words = ["--kernel=CNTK", "--dataset=PATCHES", "--num_train=28", "--num_test=4", "--subset=random"]
    subprocess.run([sys.executable, "-m", "kernel_gen", *words], check=True, timeout=600)
    [folder] = {path.parent for path in directories.rglob("gram.json")}
    options = ["--rows=20", "--test=8", "--surrogates=C8,NTK", "--fractions=0.5", "--draws=2"]
    done = subprocess.run(
        [sys.executable, SCRIPT, f"--gram={folder}", *options], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert "20 train and 8 test rows" in done.stdout
    told = dict(re.findall(r"^(.+?) +[\d.]+ % of pairs, error ([\d.]+)", done.stdout, re.MULTILINE))
    assert {"C8 alone", "NTK alone", "fewer rows, 12", "centres, 5", "C8 fitted", "all fitted"} <= set(told), told
    assert float(told["noise of 1e-06"]) < 0.01 < float(told["best rank 5"])
