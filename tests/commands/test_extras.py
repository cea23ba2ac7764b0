"""A package of an extra that cannot be imported is one line that names the extra; the import is blocked here."""

import configparser
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from linearized.base.errors import UserError
from linearized.base.extras import refuse_unreachable
from linearized.cluster.clients import new_credentials
from linearized.launch.launchers import configure
from linearized.settings.data_settings import DataSettings

SETUP = Path(__file__).resolve().parent.parent.parent / "setup.cfg"
LOCAL = SimpleNamespace(launcher="local", retries=1)
USES = {  # package -> its extra, and a call that needs it
    "pyarrow": ("parquet", lambda folder: DataSettings(data=f"{folder}/a.parquet")),
    "datasets": ("hf", lambda folder: DataSettings(data="hf:owner/name")),
    "tensorflow_datasets": ("tfds", lambda folder: DataSettings(data="tfds:mnist")),
    "dask": ("cluster", lambda folder: configure(LOCAL)),
    "distributed": ("cluster", lambda folder: configure(LOCAL)),
    "cryptography": ("cluster", lambda folder: new_credentials("--launcher=local")),
    "distributed.security": ("cluster", lambda folder: refuse_unreachable("tcp://127.0.0.1:1")),
}


@pytest.mark.parametrize("package", USES)
def test_a_package_that_cannot_be_imported_names_its_extra_in_one_line(monkeypatch, tmp_path, package):
    extra, use = USES[package]
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, package, None)  # importing it fails, also where it is installed
    with pytest.raises(
        UserError, match=rf'needs the extra \[{extra}\] .*pip install "linearized\[{extra}\]"'
    ) as caught:
        use(tmp_path)
    assert "\n" not in str(caught.value) and package in str(caught.value)


def test_every_extra_that_a_flag_may_need_is_blocked_above():
    parser = configparser.ConfigParser()
    parser.read(SETUP)
    extras = set(parser["options.extras_require"]) - {"cuda", "docs", "notebooks", "test"}  # no flag imports these
    assert extras == {extra for extra, _use in USES.values()}
    required = [re.findall(r'require\("(\w[\w.]*)", "(\w+)"', path.read_text())
                for path in (SETUP.parent / "linearized").rglob("*.py")]  # fmt: skip
    found = {pair for pairs in required for pair in pairs}
    assert found - {("dask_jobqueue", "cluster")} == {(package, extra) for package, (extra, _use) in USES.items()}
