"""Readers under Hypothesis: any damage of a file is refused in one line, or the file is read as its bytes say.

A file with checksums of all its bytes is read as it was written, or not at all. Files that go to the HDF5 library
unchecked are changed in processes of their own, by `tests/bad_inputs.py`, because that library may end the process.
"""

import importlib.util
import io
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from linearized.base.errors import UserError
from linearized.data.own import formats

TESTS = Path(__file__).resolve().parent.parent
spec = importlib.util.spec_from_file_location("bad_files", TESTS / "bad_files.py")
bad_files = importlib.util.module_from_spec(spec)
spec.loader.exec_module(bad_files)
IN_PROCESS = [name for name, target in bad_files.TARGETS.items() if not target.command and not target.hdf5]


def changed(draw, content):
    """Bytes that differ from `content` as damaged files do: random ones, a part, some bits, something put in."""
    kind = draw(st.sampled_from(["random", "truncated", "flipped", "inserted"]))
    if kind == "random":
        return draw(st.binary(max_size=300))
    place = draw(st.integers(0, len(content) - 1) | st.integers(0, min(200, len(content) - 1)))
    if kind == "truncated":
        return content[:place]
    if kind == "inserted":
        return content[:place] + draw(st.binary(min_size=1, max_size=20)) + content[place:]
    byte = content[place] ^ draw(st.integers(1, 255))
    return content[:place] + bytes([byte]) + content[place + 1 :]


def same(one, other):
    """Whether two values of a reader are equal, arrays entry by entry."""
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    if isinstance(one, dict):
        return same(sorted(one.items()), sorted(other.items()))
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


@pytest.mark.parametrize("name", IN_PROCESS)
def test_damaged_files_are_refused_in_one_line_or_read(tmp_path, name):
    target = bad_files.TARGETS[name]
    (tmp_path / "good").mkdir()
    files = [path.relative_to(tmp_path / "good") for path in target.make(tmp_path / "good")]
    expected = target.read(tmp_path / "good")
    number = iter(range(10**6))

    @settings(
        max_examples=5 if target.keras else 25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    @given(st.data())
    def check(data):
        folder = tmp_path / str(next(number))
        shutil.copytree(tmp_path / "good", folder)
        victim = data.draw(st.sampled_from(files))
        (folder / victim).write_bytes(changed(data.draw, (folder / victim).read_bytes()))
        try:
            found = target.read(folder)
        except UserError as error:
            assert str(error).isprintable()
        else:
            assert not target.checked or same(found, expected)
        shutil.rmtree(folder)

    check()
    assert same(target.read(tmp_path / "good"), expected)


@pytest.mark.parametrize("name", [name for name, target in bad_files.TARGETS.items() if not target.command])
@pytest.mark.parametrize("kind", bad_files.KINDS, ids=lambda kind: kind.__name__.strip("_"))
def test_what_is_no_file_is_refused_or_made_again(tmp_path, monkeypatch, name, kind):
    monkeypatch.setattr(formats, "WHOLE", 2**24)  # bytes that are digested of a huge file
    target = bad_files.TARGETS[name]
    victim = target.make(tmp_path)[-1]
    bad_files.damage(victim, kind, np.random.default_rng(0))
    try:
        target.read(tmp_path)
    except UserError as error:
        assert str(error).isprintable()


def test_bad_inputs_end_without_traceback_and_hang():
    done = subprocess.run(
        [sys.executable, TESTS / "bad_inputs.py", "--count=36", "--apart"], capture_output=True, text=True,
        timeout=580, cwd=TESTS.parent,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_script_reports_a_traceback_a_hang_and_a_crash(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("bad_inputs", TESTS / "bad_inputs.py")
    script = importlib.util.module_from_spec(spec)
    monkeypatch.syspath_prepend(str(TESTS))
    spec.loader.exec_module(script)

    def fails(folder):
        raise KeyError("key")

    def two_lines(folder):
        raise UserError("one\ntwo")

    def hangs(folder):
        (folder / "pipe").open()

    def crashes(folder):
        script.os.abort()

    def make(folder):
        (folder / "file").write_text("good")
        script.os.mkfifo(folder / "pipe") if not (folder / "pipe").exists() else None
        return [folder / "file"]

    (tmp_path / "good").mkdir()
    (tmp_path / "good" / "file").write_text("good")
    words = {}
    for read in (fails, two_lines, hangs, crashes, io.StringIO):
        target = script.Target(make, (lambda folder: None) if read is io.StringIO else read)
        monkeypatch.setattr(script, "LIMIT", 0.5 if read is hangs else 60.0)
        if read is hangs:
            target = script.Target(make, lambda folder: script.time.sleep(60))
        word, said = script.trial(target, tmp_path / "good", Path("file"), bad_files.CHANGES[0], 0)
        words[read.__name__] = word
        assert read is not fails or "KeyError" in said
    assert words == {"fails": "traceback", "two_lines": "traceback", "hangs": "hang", "crashes": "crash",
                     "StringIO": "read"}  # fmt: skip
