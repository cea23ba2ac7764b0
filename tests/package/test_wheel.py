"""The built wheel, installed into an environment of its own, runs in an empty folder beside a user's own modules."""

import configparser
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OWN = ("data.py", "report.py", "launch/__init__.py", "train.py", "kernel_fit.py", "settings.py")  # a user's modules


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of this tree, without its dependencies."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(source)], check=True)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, source],
        check=True, timeout=300,
    )  # fmt: skip
    return next(folder.glob("linearized-*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The folder of commands of an environment with the wheel; its dependencies are those of the tests."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    subprocess.run([sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-deps", str(wheel)],
                   check=True, timeout=300)  # fmt: skip
    site = next(folder.glob("lib/python*/site-packages"))
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")  # its own .pth files are not read
    return folder / "bin"


def test_the_wheel_has_two_import_names(wheel):
    names = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {name for name in names if not name.endswith(".dist-info")} == {"linearized", "kernel_gen"}


def test_commands_run_in_an_empty_folder_beside_a_users_modules(installed, tmp_path):
    for name in OWN:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("raise RuntimeError('a user has modules of these names too')\n")
    small = ["--num_train=60", "--num_test=20"]
    for words in (
        ["train", "--num_units=16", *small],
        ["krr", *small],
        ["status", *small],
        ["data"],
        ["compare", "--models=RF,linear", "--num_units=16", *small],
        ["launch", "--launcher=plain", "--", "linearized", "krr", "--noise_ind=1", *small],
        ["report", "--out=page.html"],
    ):
        done = subprocess.run([installed / "linearized", *words], cwd=tmp_path, capture_output=True, text=True,
                              timeout=300, env={"PATH": str(installed)})  # fmt: skip
        assert done.returncode == 0, (words, done.stderr)
    assert (tmp_path / "page.html").stat().st_size > 10_000
    assert {path.name for path in (tmp_path / "storage").iterdir()} >= {"nn", "ntk", "rkhs"}
    found = subprocess.run([installed / "python", "-c", "import linearized; print(linearized.__file__)"],
                           cwd=tmp_path, capture_output=True, text=True, check=True, env={}).stdout  # fmt: skip
    assert Path(found.strip()).is_relative_to(installed.parent)


def test_the_citation_names_this_version():
    lines = (ROOT / "CITATION.cff").read_text(encoding="utf-8").splitlines()
    version = next(line.partition(":")[2].strip() for line in lines if line.startswith("version:"))
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    assert (version, f"license: {setup['metadata']['license']}" in lines) == (setup["metadata"]["version"], True)
