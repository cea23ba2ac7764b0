"""The table of benchmarks: what scripts tell becomes rows, and a part of it can be made anew."""

import json
import re
import sys
from pathlib import Path

import pytest
from absl import flags
from absl.testing import flagsaver

HERE = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def table():
    sys.path.insert(0, str(HERE))
    import table

    if not flags.FLAGS.is_parsed():
        flags.FLAGS(["table"])
    return table


@pytest.fixture
def scripts(table, tmp_path, monkeypatch):
    """A folder with two scripts of one row each, and the table that is made of them."""
    for name, row in (
        ("first", "'a product', 2.0, 'NumPy', 3.0, 's'"),
        ("second", "'a rate', 2.0, 'NumPy', 8.0, 'GB/s'"),
    ):
        imports = f"import sys; sys.path.insert(0, {str(HERE)!r}); from figures import record"
        (tmp_path / f"{name}.py").write_text(f"{imports}\nrecord({row})\n")
    monkeypatch.setattr(table, "HERE", tmp_path)
    monkeypatch.setattr(table, "FIGURES", tmp_path / "figures.json")
    monkeypatch.setattr(table, "TABLE", tmp_path / "README.md")
    monkeypatch.setattr(table, "SCRIPTS", {"first.py": "", "second.py": ""})
    monkeypatch.setattr(table.os, "sched_setaffinity", lambda *_: None)
    return tmp_path


def test_every_script_exists_and_has_the_flags_that_the_table_gives(table):
    for script, words in table.SCRIPTS.items():
        text = (HERE / script).read_text()
        assert "record(" in text
        for flag in re.findall(r"--(\w+)", words):
            assert re.search(rf'DEFINE_\w+\(\s*"{flag}"', text), (script, flag)


def test_times_and_rates_become_rows_of_how_many_times_faster(table, scripts):
    table.main(["table"])
    text = (scripts / "README.md").read_text()
    assert "| a product | 2 s | NumPy 3 s | 1.50 |" in text
    assert "| a rate | 2 GB/s | NumPy 8 GB/s | 0.25 |" in text
    assert set(json.loads((scripts / "figures.json").read_text())) == {"first.py", "second.py"}


def test_a_script_that_fails_keeps_its_rows_and_one_alone_replaces_its_own(table, scripts):
    table.main(["table"])
    first, second = scripts / "first.py", scripts / "second.py"
    first.write_text("raise SystemExit(3)")
    second.write_text(second.read_text().replace("8.0", "4.0"))
    with pytest.raises(SystemExit, match=r"first\.py ended with code 3"):
        table.main(["table"])
    text = (scripts / "README.md").read_text()
    assert "NumPy 3 s | 1.50" in text and "NumPy 4 GB/s | 0.50" in text
    second.write_text(second.read_text().replace("4.0", "2.0"))
    with flagsaver.flagsaver(only=["second.py"]):
        table.main(["table"])
    text = (scripts / "README.md").read_text()
    assert "NumPy 3 s | 1.50" in text and "NumPy 2 GB/s | 1.00" in text


def test_units_and_scripts_that_are_unknown_are_refused(table):
    with pytest.raises(ValueError, match="A unit is one of"):
        sys.modules["figures"].record("a product", 1.0, "NumPy", 1.0, "minutes")
    with flagsaver.flagsaver(only=["third.py"]), pytest.raises(table.app.UsageError, match=r"Received: third\.py"):
        table.main(["table"])
