"""A folder of results of both kinds, made of numbers: what a model's and a kernel's run leave, whole and broken."""

import json

import numpy as np
import pytest

from linearized.storage import results


def model_record(model="RF", dataset="FMNIST", noise=0, seed=0, *, units=64, ridges=4, missed=(), diverged=False):
    def entry(index):
        good = 0.9 - 0.05 * noise - 0.02 * abs(index - 1) + 0.01 * seed
        row = {
            "index": index, "ridge": 10.0 ** (index - 2), "converged": index not in missed and not diverged,
            "iterations": 10 + index, "residual": 1e-5 * (index + 1), "diverged": diverged,
            "message": "The loss was no longer finite." if diverged else "",
        }  # fmt: skip
        for split, worse in (("train", 0.0), ("validation", 0.05), ("test", 0.06)):
            row |= {f"{split}_loss": 1.1 - good + worse, f"{split}_accuracy": good - worse}
        return row

    return {
        "title": f"{model}, N = {units}, on {dataset}, τ = {noise}, n = 100",
        "command": f"python train.py --model={model} --dataset={dataset}",
        "settings": {"model": model, "dataset": dataset, "noise_ind": noise, "num_units": units, "seed": 0,
                     "weight_seed": seed, "loss": "square"},
        "data": {"name": dataset, "fingerprint": f"{noise:016x}", "dim": 64, "n_train": 100, "n_validation": 20,
                 "n_test": 50, "noise": f"τ = {noise}"},
        "model": {"num_parameters": 650, "hidden_layers": 1},
        "solver": {"name": "lanczos", "reason": "a small basis", "step": "iteration", "history": "residual, relative"},
        "ridge_unit": "λ of (1/n)‖Av - y‖² + λ‖v‖²",
        "ridges": [entry(index) for index in range(ridges)],
        "chosen": {"position": min(1, ridges - 1), "index": min(1, ridges - 1), "by": "validation accuracy"},
        "seconds": 1.5,
        "made_by": {"version": "0.2.0", "commit": "c0ffee-dirty", "seeds": {"weight_seed": seed},
                    "machine": {"name": "hilbert", "processor": "abacus", "cores": 2, "memory_gib": 24.0}},
    }  # fmt: skip


def kernel_record(noise=0, **changes):
    record = model_record("NTK2", noise=noise, **changes)
    for entry in record["ridges"]:
        entry |= {"gcv": 0.1 + entry["ridge"], "degrees_of_freedom": 50.0 / (1 + entry["ridge"]),
                  "test_relative_risk": 0.5, "leave_one_out_loss": 0.3, "leave_one_out_accuracy": 0.8}  # fmt: skip
    del record["settings"]["model"]
    record["model"] = {"name": "NTK2 kernel", "hidden_layers": 1}
    record |= {"ridge_symbol": "ρ", "chosen_published": {"position": 0, "index": 0, "by": "test accuracy"}}
    return record


def save_run(folder, record):
    arrays = {f"history/{entry['index']:03d}": np.geomspace(1, 1e-5, 8) for entry in record["ridges"]}
    return results.save(folder, record, {**arrays, "predictions/test": np.zeros((50, 10))})


def save_all(root):
    """Nine finished runs of two seeds, a kernel, one diverged, one not converged; one damaged, one unfinished."""
    for noise in (0, 1):
        for seed in (0, 1):
            save_run(root / f"RF_{noise}_{seed}", model_record("RF", noise=noise, seed=seed))
        save_run(root / f"NN_{noise}", model_record("NN", noise=noise, ridges=1))
        save_run(root / f"kernel_{noise}", kernel_record(noise, missed=(2,) if noise else ()))
    save_run(root / "diverged", model_record("NT", "SYNTH<&>", ridges=1, diverged=True))
    (root / "damaged").mkdir()
    (root / "damaged" / "result.json").write_text('{"format": 1, "ti')
    (root / "lacking").mkdir()
    (root / "lacking" / "result.json").write_text(json.dumps({"format": 1}))
    (root / "stopped" / "unfinished").mkdir(parents=True)
    (root / "stopped" / "unfinished" / "state.npz").write_bytes(b"work")
    return root


@pytest.fixture
def saved(tmp_path):
    """The runs of `save_all`, for one test, which may change them."""
    return save_all(tmp_path / "results")


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """The runs of `save_all`, for the tests of a module, which only read them."""
    return save_all(tmp_path_factory.mktemp("shared") / "results")


@pytest.fixture
def make_run():
    """`make_run(folder, model, dataset, noise, ...)` saves a finished run of a model; see `model_record`."""
    return lambda folder, *about, **more: save_run(folder, model_record(*about, **more))
