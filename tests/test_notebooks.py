"""Every notebook runs from its first cell to its last on small results, and lies here without outputs."""

import ast
from pathlib import Path

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from nbclient import NotebookClient

from . import warm_commands

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SMALL = ["--dataset=DIGITS", "--num_train=60", "--num_test=30"]
RESULTS = [
    ["train.py", "--model=RF", "--num_units=8", *SMALL],
    ["kernel_fit.py", "--kernel=NTK", "--noise_ind=0,7", *SMALL],
]


@pytest.fixture(scope="module")
def small_results(tmp_path_factory):
    """A `directories.txt` whose folders hold results of a model and of a kernel at two levels."""
    root = tmp_path_factory.mktemp("notebooks")
    keys = ("data_dir", "ntk_dir", "cntk_dir", "rf_dir", "synth_dir", "rkhs_dir", "nn_dir")
    (root / "directories.txt").write_text("".join(f"{key} {key}\n" for key in keys))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIRECTORIES", str(root / "directories.txt"))
        for words in RESULTS:
            warm_commands.run(words, cwd=ROOT).check_returncode()
    return root


# These train and compile for half a minute each.
LONG = ("any_model", "embeddings", "kernel_vs_network", "kervolution", "lambda_layers", "snnk", "why_networks_win",
        "your_data")  # fmt: skip
RUN = [pytest.param(path, marks=pytest.mark.slow if path.stem in LONG else (), id=path.stem) for path in NOTEBOOKS]


@pytest.mark.parametrize("path", RUN)
def test_notebook_runs_on_small_results(path, small_results, monkeypatch):
    monkeypatch.setenv("DIRECTORIES", str(small_results / "directories.txt"))
    monkeypatch.setenv("KERAS_HOME", str(small_results / "keras"))
    monkeypatch.setenv("IPYTHONDIR", str(small_results / "ipython"))
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(path.parent)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) >= 2
    assert [output for output in outputs if output.get("name") == "stderr" and "Warning" in output["text"]] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_imports_what_there_is(path):
    """Names that have moved are found without running the long notebooks."""
    code = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    found = [node for source in code for node in ast.walk(ast.parse(TransformerManager().transform_cell(source)))
             if isinstance(node, ast.Import | ast.ImportFrom)]  # fmt: skip
    assert found
    for node in found:
        exec(compile(ast.Module([node], []), path.name, "exec"), {})


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_lies_here_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    assert notebook.cells[0].cell_type == "markdown"
    assert notebook.cells[0].source.startswith("# ")


def test_a_notebook_writes_into_the_storage_of_its_folder(tmp_path, monkeypatch):
    for name in ("DIRECTORIES", "LINEARIZED_STORAGE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    cell = "from linearized.cli.krr import command\nassert command(['--num_train=40', '--num_test=20']) == 0"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)])
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert {path.name for path in (tmp_path / "storage").iterdir()} >= {"ntk", "rkhs"}


def test_there_are_notebooks():
    assert {path.stem for path in NOTEBOOKS} >= {"cntk", "convergence", "kernel_vs_network", "noise", "synthetic_data"}
