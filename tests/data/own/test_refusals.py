"""Own data that cannot be used end every command with code 2 and one line, before a framework is imported."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from linearized.cli.launch import command as launch

FRAMEWORKS = ("jax", "jaxlib", "keras", "numba", "neural_tangents", "tensorflow")
COMMANDS = {
    "train": ["train"], "train NN": ["train", "--model=NN"], "krr": ["krr"], "gram": ["gram"], "status": ["status"],
    "krr --features": ["krr", "--features=NTK", "--embedding_dim=16"], "embed": ["embed"], "data": ["data"],
    "gram CNTK": ["gram", "--kernel=CNTK"], "embed CNTK": ["embed", "--features=CNTK", "--embedding_dim=16"],
    "compare": ["compare", "--models=RF,krr:NTK"],
}  # fmt: skip
KINDS = {
    "missing file": ("none.npz", "does not exist"), "NaN": ("nan.npz", "missing in 1 row"),
    "infinite": ("infinite.npz", "infinite"), "NaN images": ("images.npz", "missing in 1 row"),
    "empty cell": ("cell.csv", "missing in 1 row"), "one class": ("one.npz", "Two classes are needed"),
    "missing labels": ("labels.npz", "labels are missing in 1 row"), "no labels": ("inputs.npz", "has no labels"),
    "missing target": ("columns.csv", "Name the column to predict"), "damaged": ("damaged.npz", "is damaged"),
    "text": ("text.csv", "no categories"), "unknown": ("nothing", "of no known format"),
    "published name": ("fmnist", "give --dataset=FMNIST"), "labels of other rows": ("short.npz", "labels of shape"),
    "empty folder": ("empty", "is an empty folder"), "unknown set": ("keras:nothing", "The choices are"),
}  # fmt: skip
SHOWN = ("NaN", "infinite", "NaN images", "empty cell")  # what `data` and `status` describe without loading the rows
CHILD = """
import contextlib, io, json, sys
from linearized.cli import main
commands, kinds, frameworks = json.loads(sys.argv[1])
found = {}
for name, words in commands.items():
    for kind, text in kinds.items():
        before, err = set(sys.modules), io.StringIO()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(err):
            code = main([*words, f"--data={text}"])
        imported = [one for one in frameworks if one in sys.modules and one not in before]
        found[f"{name}: {kind}"] = code, imported, err.getvalue()
print(json.dumps(found))
"""


def write(folder):
    x, y = np.random.default_rng(0).normal(size=(40, 64)), np.arange(40) % 2
    holes = np.where(np.arange(40 * 64).reshape(40, 64) == 500, np.nan, x)
    np.savez(folder / "nan.npz", x=holes, y=y)
    np.savez(folder / "images.npz", x=holes.reshape(40, 8, 8), y=y)
    np.savez(folder / "infinite.npz", x=np.where(np.isnan(holes), np.inf, x), y=y)
    np.savez(folder / "one.npz", x=x, y=np.zeros(40))
    np.savez(folder / "labels.npz", x=x, y=holes[:, 500 % 64])
    np.savez(folder / "inputs.npz", x=x)
    np.savez(folder / "short.npz", x=x, y=y[:5])
    (folder / "damaged.npz").write_text("nothing")
    (folder / "columns.csv").write_text("a,b\n1,2\n3,4\n")
    (folder / "cell.csv").write_text("a,y\n" + "".join(f"{row or ''},{row % 2}\n" for row in range(40)))
    (folder / "text.csv").write_text("a,y\n" + "".join(f"word {row},{row % 2}\n" for row in range(60)))
    (folder / "empty").mkdir()


@pytest.fixture(scope="module")
def refusals(tmp_path_factory):
    """Exit code, frameworks that were imported, and errors of each command on each kind, all in one process."""
    folder = tmp_path_factory.mktemp("refusals")
    write(folder)
    given = json.dumps([COMMANDS, {kind: text for kind, (text, _words) in KINDS.items()}, FRAMEWORKS])
    env = {**os.environ, "LINEARIZED_STORAGE": str(folder / "storage"), "DIRECTORIES": ""}
    done = subprocess.run([sys.executable, "-c", CHILD, given], cwd=folder, env=env, capture_output=True, text=True,
                          timeout=300)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("command", COMMANDS)
def test_data_that_cannot_be_used_are_refused_before_a_framework_is_imported(refusals, command, kind):
    code, imported, err = refusals[1][f"{command}: {kind}"]
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert not imported
    if kind in SHOWN and command == "data":
        assert (code, lines) == (0, [])
        return
    assert code == 2 and len(lines) == 1
    if not (kind in SHOWN and (command == "status" or "CNTK" in command)):  # no matrix there yet; rows are no images
        assert KINDS[kind][1] in lines[0]
    assert not list(refusals[0].rglob("result.json"))


@pytest.mark.parametrize("words", [["--expand"], []], ids=["planned", "run"])
def test_launched_commands_with_data_that_cannot_be_used_end_with_code_2(refusals, monkeypatch, words, capfd):
    monkeypatch.chdir(refusals[0])
    monkeypatch.setenv("LINEARIZED_STORAGE", str(refusals[0] / "storage"))
    flags = ["--launcher=plain", "--workers=1", "--logs=logs", *words, "--"]
    assert launch([*flags, "python", "-m", "kernel_gen", "--data=nan.npz"]) == 2
    err = capfd.readouterr().err + "".join(path.read_text() for path in (refusals[0] / "logs").glob("*"))
    assert "values are missing in 1 row" in err and "Traceback" not in err
