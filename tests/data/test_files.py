"""Files and folders are whole or absent, whatever fails on the way."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import h5py
import pytest

from linearized.base.errors import UserError
from linearized.data.transforms import cache
from linearized.storage import files
from linearized.storage.files import Busy, claimed, held, is_held, reap, whole_file, whole_folder, whole_hdf5


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_file_takes_the_place_of_the_old_one_only_at_the_end(tmp_path):
    path = tmp_path / "sub" / "a.txt"
    with whole_file(path) as aside:
        aside.write_text("one")
        assert not path.exists()
    with whole_file(path) as aside:
        aside.write_text("two")
        assert path.read_text() == "one"
    assert path.read_text() == "two"
    assert names(path.parent) == ["a.txt"]


def test_file_has_the_permissions_of_any_other(tmp_path):
    (tmp_path / "plain").write_text("")
    with whole_file(tmp_path / "ours") as aside:
        aside.write_text("")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("whole", [whole_file, whole_folder])
def test_failure_leaves_no_trace(tmp_path, whole, error):
    def fails():
        with whole(tmp_path / "results" / "new" / "a") as aside:
            (aside if whole is whole_file else aside / "x").write_text("half")
            raise error

    with pytest.raises(type(error)):
        fails()
    assert names(tmp_path) == []


def test_an_error_of_the_disk_names_the_file_and_no_temporary_folder(tmp_path, monkeypatch):
    with pytest.raises(OSError, match="No space") as caught, whole_file(tmp_path / "a") as aside:
        raise OSError(errno.ENOSPC, "No space left on device", str(aside))
    assert caught.value.filename == str(tmp_path / "a")

    def refuses(dir, prefix):
        raise OSError(errno.EROFS, "Read-only file system", f"{dir}/{prefix}x")

    monkeypatch.setattr(files.tempfile, "mkdtemp", refuses)
    with pytest.raises(OSError, match="Read-only") as caught, whole_file(tmp_path / "a"):
        pass
    assert caught.value.filename == str(tmp_path)


def test_a_failure_under_a_lock_leaves_no_empty_folder(tmp_path):
    def fails(text):
        with held(tmp_path / "new" / "shards" / "a.lock") as lock:
            lock.with_suffix(".txt").write_text(text) if text else None
            raise OSError(errno.ENOSPC, "No space left on device")

    for text, left in (("", []), ("done", ["new"])):
        with pytest.raises(OSError, match="No space"):
            fails(text)
        assert names(tmp_path) == left


def test_a_temporary_folder_that_cannot_be_locked_is_removed(tmp_path, monkeypatch):
    def refuses(path):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(files, "_locked", refuses)
    with pytest.raises(OSError, match="No space"), whole_file(tmp_path / "new" / "a"):
        pass
    assert names(tmp_path) == []


def test_folder_appears_whole_and_an_existing_one_is_kept(tmp_path):
    for text in ("one", "two"):
        with whole_folder(tmp_path / "f") as aside:
            (aside / "a").write_text(text)
    assert (tmp_path / "f" / "a").read_text() == "one"
    assert names(tmp_path) == ["f"]


def test_folder_that_another_process_made_meanwhile_is_kept(tmp_path, monkeypatch):
    rename = Path.rename

    def other_was_first(self, target):
        target.mkdir()
        (target / "a").write_text("other")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", other_was_first)
    with whole_folder(tmp_path / "f") as aside:
        (aside / "a").write_text("ours")
    assert (tmp_path / "f" / "a").read_text() == "other"
    assert names(tmp_path) == ["f"]


@pytest.mark.parametrize("whole", [whole_file, whole_folder])
def test_a_file_in_the_way_of_the_folder_is_an_os_error(tmp_path, whole):
    (tmp_path / "f").write_text("")

    def tries():
        with whole(tmp_path / "f" / "a"):
            pass

    with pytest.raises(OSError, match="f"):
        tries()


def test_hdf5_appears_whole(tmp_path):
    with whole_hdf5(tmp_path / "a.h5") as file:
        file["x"] = [1.0, 2.0]
        assert names(tmp_path) == []
    with h5py.File(tmp_path / "a.h5") as file:
        assert list(file["x"]) == [1.0, 2.0]


def test_a_claimed_folder_is_one_process_at_a_time_and_goes_if_it_stays_empty(tmp_path):
    with claimed(tmp_path / "run"), pytest.raises(UserError, match="Another process"), claimed(tmp_path / "run"):
        pass
    assert names(tmp_path) == []
    with claimed(tmp_path / "run") as folder:
        (folder / "kept").write_text("")
    assert names(tmp_path) == ["run"]


def test_a_held_file_is_held_by_one_and_gone_after(tmp_path):
    path = tmp_path / "lock"
    with held(path):
        assert path.exists() and is_held(path)
        with pytest.raises(Busy, match="Another process"), held(path):
            pass
        assert path.exists()
    assert not path.exists() and not is_held(path)


def test_waiting_for_a_held_file(tmp_path):
    path, order = tmp_path / "lock", []

    def second():
        with held(path, wait=30.0):
            order.append("second")

    with held(path):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.1)
        order.append("first")
    thread.join()
    assert order == ["first", "second"] and not path.exists()


def test_a_lock_file_that_a_killed_process_left_holds_nobody_up(tmp_path):
    path = tmp_path / "lock"
    code = (
        f"import os\nfrom linearized.storage.files import held\nwith held({str(path)!r}):\n    os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    assert path.exists() and not is_held(path)
    with held(path):
        assert is_held(path)
    assert not path.exists()


def killed(work):
    """Run `work` in a forked child that kills itself at the end."""
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)


@pytest.mark.parametrize("whole", [whole_file, whole_folder])
def test_the_next_writer_removes_what_a_killed_one_left_and_no_more(tmp_path, whole):
    def dies():
        with whole(tmp_path / "a") as aside:
            (aside if whole is whole_file else aside / "x").write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)

    killed(dies)
    [left] = tmp_path.iterdir()
    assert left.name.startswith(".writing-")
    with whole_file(tmp_path / "living") as living, whole_file(tmp_path / "b") as aside:
        living.write_text("here")
        aside.write_text("b")
        assert not left.exists() and living.exists()
    assert names(tmp_path) == ["b", "living"]


def test_claiming_a_folder_cleans_it_and_reaping_leaves_what_is_held(tmp_path):
    def dies():
        with claimed(tmp_path / "run"), whole_file(tmp_path / "run" / "unfinished" / "state") as aside:
            aside.write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)

    killed(dies)
    assert [path.name[:9] for path in (tmp_path / "run" / "unfinished").iterdir()] == [".writing-"]
    with claimed(tmp_path / "run"):
        assert names(tmp_path / "run" / "unfinished") == []

    def dies_holding():
        with held(tmp_path / "dead.lock"):
            os.kill(os.getpid(), signal.SIGKILL)

    killed(dies_holding)
    with held(tmp_path / "living.lock"):
        assert reap(tmp_path, locks=["*.lock"]) == [tmp_path / "dead.lock"]
        assert (tmp_path / "living.lock").exists()


def test_reading_a_cache_removes_what_a_writer_left_that_was_killed_after_it_was_whole(tmp_path):
    (tmp_path / ".writing-dead").mkdir()
    assert cache.read(tmp_path / "absent") is None
    assert names(tmp_path) == []


def test_a_refused_claim_leaves_no_new_folders(tmp_path):
    (tmp_path / "mine").mkdir()
    with claimed(tmp_path / "mine" / "new" / "run"):
        pass
    assert names(tmp_path / "mine") == []


@pytest.mark.parametrize("limit", [0, 10**4])
def test_an_open_file_that_meets_a_full_disk_is_named_by_its_folder(tmp_path, limit):
    code = (
        "import resource, sys, numpy as np; from pathlib import Path\n"
        "from linearized.storage.files import whole_hdf5\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
        "try:\n"
        "    with whole_hdf5(Path(sys.argv[1]) / 'runs' / 'a.h5') as file: file['x'] = np.zeros(10_000)\n"
        "except OSError as error: sys.exit(error.filename)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert done.stderr == f"{tmp_path / 'runs'}\n" and not list(tmp_path.iterdir())
