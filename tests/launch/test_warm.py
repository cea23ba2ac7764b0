"""Commands of the suite in forks of a server: what new processes give, deaths of each process, and no orphans."""

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from linearized.launch import suite_commands, task, warm_process
from linearized.launch.suite_commands import MODULES, suite_command
from linearized.launch.task import Task, run_task
from linearized.launch.warm_process import end_servers
from linearized.storage.results import load_arrays

from .waiting import PATIENCE, alive, until

ROOT = Path(__file__).resolve().parents[2]
WRAPPER = '"""\nfrom linearized.cli.train import command\n"""\n'  # what makes a train.py the suite's own


@pytest.fixture(autouse=True)
def light_servers(monkeypatch):
    """Servers import next to nothing, so that they start in a blink; none is left by a test."""
    monkeypatch.setitem(MODULES, "train", ("json",))
    monkeypatch.setattr(task, "_stopped", set())  # launches of other tests, and these for other tests, are unknown
    monkeypatch.setattr(task, "_running", {})
    warm_process._learned.clear()
    yield
    end_servers()


@pytest.fixture
def script(tmp_path):
    """A function that writes the code of train.py, and one that runs it as a task."""

    def run(code, *words, warm=True, **environment):
        (tmp_path / "train.py").write_text(WRAPPER + code)
        return run_task(Task(("python", "train.py", *words), str(tmp_path), str(tmp_path / "log"),
                             tuple(environment.items()), "own", warm))  # fmt: skip

    return run


def server():
    """The process number of the only server that waits."""
    ((one,),) = warm_process._idle.values()
    return one.process.pid


PARENT = "import os, sys; print(os.getppid())\n"
SEEN = """
import atexit, os, signal, sys, threading, time
print(os.getcwd(), sys.argv, sys.path, __name__, __file__, __spec__, sorted(vars()), sys.orig_argv, sys.executable)
print(sorted(os.environ.items()), os.umask(0), [os.readlink(f"/proc/self/fd/{n}") for n in (0, 1, 2)], os.isatty(1))
print([signal.getsignal(n) for n in range(1, 32)], signal.pthread_sigmask(signal.SIG_BLOCK, []))
print(os.getsid(0) == os.getpid(), os.getpgrp() == os.getpid())
print(threading.enumerate() == [threading.main_thread()], sys.flags, os.environ["OMP_NUM_THREADS"])
print(sys.modules["__main__"].__dict__ is globals())
print("stderr", file=sys.stderr)
atexit.register(lambda: (time.sleep(0.1), print("at exit")))
threading.Thread(target=lambda: (time.sleep(0.2), print("from a thread"))).start()
def work(kind):
    if kind == "text":
        sys.exit("a line")
    if kind == "raise":
        raise ValueError("raised")
    if kind in ("SIGKILL", "SIGINT", "SIGTERM"):
        os.kill(os.getpid(), getattr(signal, kind))
    sys.exit(int(kind))
work(sys.argv[1])
"""


@pytest.mark.parametrize("kind", ["0", "3", "text", "raise", "SIGKILL", "SIGINT", "SIGTERM"])
def test_forked_command_sees_and_leaves_what_a_new_process_does(script, tmp_path, kind):
    codes, logs = [], []
    for warm in (False, True):
        codes.append(script(SEEN, kind, warm=warm, OMP_NUM_THREADS="3").code)
        text = (tmp_path / "log").read_text()
        (tmp_path / "log").unlink()
        logs.append(re.sub(r"^# .*\n|0x[0-9a-f]+", "", text, flags=re.MULTILINE).splitlines())
    assert alive(server())
    assert codes[0] == codes[1]
    assert len(logs[0]) > 1 or kind == "SIGKILL"
    assert logs[0] == logs[1]


def test_commands_of_one_kind_share_a_server_and_others_have_their_own(script, monkeypatch):
    first = int(script(PARENT, "--seed=1").tail)
    assert int(script(PARENT, "--seed=2").tail) == first == server()
    assert int(script(PARENT, OMP_NUM_THREADS="2").tail) != first
    assert len(warm_process._idle) == 2
    for count in range(warm_process.MOST_IDLE):
        monkeypatch.setitem(MODULES, "train", ("json",) * (2 + count))
        script(PARENT)
    assert len(warm_process._idle) == warm_process.MOST_IDLE + 1  # those of the other environment stay
    until(lambda: not alive(first), "the oldest server to end")


def test_each_fork_draws_other_numbers_from_unseeded_generators(script, monkeypatch):
    monkeypatch.setitem(MODULES, "train", ("numpy.random",))
    code = "import numpy, random, uuid; print(numpy.random.rand(), random.random(), uuid.uuid4())"
    drawn = [script(code).tail.split() for _ in range(2)]
    assert server()
    assert all(one != two for one, two in zip(*drawn, strict=True))


def test_blas_of_a_fork_has_the_threads_of_a_new_process(script, monkeypatch):
    monkeypatch.setitem(MODULES, "train", ("scipy.linalg", "threadpoolctl"))
    code = """
import numpy as np, os, scipy.linalg, threadpoolctl
a = np.arange(90_000.0).reshape(300, 300) / 90_000
print(scipy.linalg.cholesky(a @ a.T + np.eye(300)).sum(), len(os.listdir("/proc/self/task")))
print([pool["num_threads"] for pool in threadpoolctl.threadpool_info()])
"""
    said = [script(code, warm=warm, OPENBLAS_NUM_THREADS="2").tail for warm in (False, True)]
    assert server()
    assert said[0] == said[1] and said[0].count("\n") == 2


def test_a_killed_server_costs_its_run_and_is_replaced(script):
    first = int(script(PARENT).tail)
    os.kill(first, signal.SIGKILL)  # while it waits: nobody notices
    until(lambda: not alive(first), "the server to end")
    second = int(script(PARENT).tail)
    code = """
import os, signal, subprocess, sys, time
print(os.getpid(), subprocess.Popen(["sleep", "600"]).pid, flush=True)
os.kill(os.getppid(), signal.SIGKILL)
time.sleep(600)
"""
    outcome = script(code)
    assert outcome.code == 128 + signal.SIGKILL
    until(lambda: not any(alive(int(pid)) for pid in outcome.tail.split()), "the run and its child to end")
    assert len({first, second, int(script(PARENT).tail)}) == 3


def test_processes_that_a_command_leaves_are_ended(script):
    code = "import subprocess; print(subprocess.Popen(['sleep', '600']).pid)"
    left = int(script(code).tail)
    until(lambda: not alive(left), "what the command left running to end")
    assert alive(server())


STUBBORN = """
import os, pathlib, signal, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
pathlib.Path("pids").write_text(f"{os.getpid()} {os.getppid()}")
time.sleep(600)
"""
GENTLE = STUBBORN.replace("signal.SIG_IGN", "signal.default_int_handler")


@pytest.mark.parametrize("code, ends", [(GENTLE, 128 + signal.SIGINT), (STUBBORN, 128 + signal.SIGKILL)])
def test_stopped_commands_are_interrupted_then_killed_and_their_servers_end(script, tmp_path, code, ends):
    outcomes = []
    running = threading.Thread(target=lambda: outcomes.append(script(code)))
    running.start()
    until(lambda: (tmp_path / "pids").exists() and (tmp_path / "pids").read_text(), "the command")
    task.stop_tasks("own")
    running.join(PATIENCE)
    assert outcomes[0].code == ends
    until(lambda: not any(alive(int(pid)) for pid in (tmp_path / "pids").read_text().split()), "all to end")
    assert not warm_process._idle


def test_all_ends_with_a_killed_worker(tmp_path):
    (tmp_path / "train.py").write_text(WRAPPER + GENTLE)
    worker = f"""
from linearized.launch.suite_commands import MODULES
from linearized.launch.task import Task, run_task
MODULES["train"] = ("json",)
run_task(Task(("python", "train.py"), {str(tmp_path)!r}, {str(tmp_path / "log")!r}, (), "own", True))
"""
    process = subprocess.Popen([sys.executable, "-c", worker], cwd=ROOT)
    until(lambda: (tmp_path / "pids").exists() and (tmp_path / "pids").read_text(), "the command")
    process.kill()
    process.wait()
    until(lambda: not any(alive(int(pid)) for pid in (tmp_path / "pids").read_text().split()), "all to end")


@pytest.mark.parametrize(
    "module", ["import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()",
               "raise ImportError('broken')"], ids=["thread", "broken"],
)  # fmt: skip
def test_where_imports_make_forks_unsafe_commands_run_in_new_processes(script, tmp_path, monkeypatch, module):
    (tmp_path / "unsafe.py").write_text(module)
    monkeypatch.setitem(MODULES, "train", ("unsafe",))
    for _ in range(2):
        assert script("print('ran')").tail == "ran\n"
    assert len(warm_process._unfit) == 1 and not warm_process._idle
    warm_process._unfit.clear()


def test_frameworks_are_imported_ahead_only_for_commands_that_import_them(script, tmp_path, monkeypatch):
    (tmp_path / "numba.py").write_text("")
    monkeypatch.setitem(suite_commands.FRAMEWORKS, "numba", "numba")
    code = "import sys; print('numba' in sys.modules)\nif '--model=A' in sys.argv: import numba"
    said = [script(code, *words.split()).tail.strip() for words in
            ("--model=A --n=1", "--model=A --n=2", "--model=B", "--model=B")]  # fmt: skip
    assert said == ["False", "True", "False", "False"]


def test_a_command_that_chooses_the_backend_by_its_numbers_finds_none_imported():
    found = ("jax", "keras", "keras.src.backend.jax")

    def ahead(*words):
        command = suite_commands.SuiteCommand(words[0], "python", ("-m", "linearized", *words), "")
        return {module.rpartition(":")[2] for module in command.modules(found)} - set(MODULES[words[0]])

    for words in (("--max_cg_iters=9",), ("--model=nn", "--backend=auto"), ("--model", "CNN"), ("--model=of_nobody",)):
        assert ahead("train", *words) == {"jax"}, words
    for command in (("train", "--backend=jax"), ("train", "--model=CNN"), ("train", "--model=a.keras"), ("finetune",)):
        assert ahead(*command) == {"jax", "import_keras", "import_keras_on_jax"}, command


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_imports_of_servers_are_safe_to_fork_after_and_bring_no_framework_unasked(backend):
    code = (
        f"backend = {backend!r}"
        + """
import importlib, os, sys
from linearized.launch.suite_commands import FRAMEWORKS, MODULES
from linearized.launch.warm_server import unfit
for name in sorted({name for names in MODULES.values() for name in names}):
    importlib.import_module(name)
assert not set(FRAMEWORKS) & set(sys.modules), "a framework that nobody asked for"
if backend == "tensorflow":
    del FRAMEWORKS["keras.src.backend.jax"]
for text in FRAMEWORKS.values():
    module, _, function = text.partition(":")
    loaded = importlib.import_module(module)
    function and getattr(loaded, function)()
assert set(FRAMEWORKS) <= set(sys.modules) and unfit() == "", unfit()
if (child := os.fork()) == 0:
    import jax, keras, numba, numpy
    assert keras.backend.backend() == backend
    ones = numpy.ones((300, 300))
    assert all(float((convert(ones) @ convert(ones))[0, 0]) == 300
               for convert in (numpy.asarray, keras.ops.convert_to_tensor, jax.numpy.asarray))
    assert numba.njit(parallel=True)(lambda x: x.sum())(ones) == 90_000
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=5 * PATIENCE)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "words, name",
    [
        ("python -m linearized train --model=RF", "train"),
        (f"{sys.executable} -m linearized.krr", "krr"),
        ("python -m kernel_gen --kernel=NTK", "gram"),
        ("python -m kernel_gen.embed", "embed"),
        ("python train.py", "train"),
        ("python kernel_fit.py", "krr"),
        ("linearized theory", "theory"),
        ("python -m linearized launch", None),
        ("python -m linearized", None),
        ("python -m", None),
        ("python", None),
        ("python -u -m linearized train", None),
        ("python -c pass", None),
        ("/usr/bin/env python train.py", None),
        ("no-such-command train.py", None),
        ("true", None),
    ],
)
def test_commands_of_the_suite_are_recognised(words, name):
    found = suite_command(words.split(), str(ROOT), task.environment_of(Task((), "", ""))["PATH"])
    assert (found and found.name) == name


def test_a_script_of_another_name_or_content_is_not_the_suites(tmp_path):
    search = task.environment_of(Task((), "", ""))["PATH"]
    for name, text in (("train.py", "print()"), ("mine.py", WRAPPER)):
        (tmp_path / name).write_text(text)
        assert suite_command(("python", name), str(tmp_path), search) is None
        assert suite_command(("python", f"no-{name}"), str(tmp_path), search) is None


@pytest.mark.parametrize("flags, parent", [([], "warm_server.py"), (["--cold"], "guard.py")], ids=["warm", "cold"])
def test_launch_forks_commands_unless_cold_is_given(tmp_path, flags, parent):
    (tmp_path / "train.py").write_text(
        WRAPPER + "import os, pathlib; print(pathlib.Path(f'/proc/{os.getppid()}/cmdline').read_text().split(chr(0)))"
    )
    words = ["--launcher=plain", "--workers=1", f"--logs={tmp_path}", *flags, "--", "python", "train.py"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-m", "linearized", "launch", *words], cwd=tmp_path, env=environment,
                          capture_output=True, text=True, timeout=PATIENCE)  # fmt: skip
    assert done.returncode == 0, done.stderr
    (log,) = tmp_path.glob("*.log")
    assert parent in log.read_text()


def test_cold_is_refused_where_no_launcher_reads_it():
    done = subprocess.run([sys.executable, "-m", "linearized", "launch", "--launcher=slurm", "--cold", "--", "true"],
                          cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)  # fmt: skip
    assert done.returncode == 2 and "--cold" in done.stderr


def test_forked_runs_and_their_children_give_the_results_of_new_processes(tmp_path, monkeypatch):
    def krr(rows, storage, warm):
        monkeypatch.setenv("LINEARIZED_STORAGE", str(tmp_path / storage))
        words = ("python", "-m", "linearized", "krr", "--kernel=RF", f"--num_train={rows}", "--num_test=20")
        outcome = run_task(Task(words, str(ROOT), str(tmp_path / f"log-{storage}"), (), "own", warm))
        assert outcome.code == 0, outcome.tail
        folders = sorted((tmp_path / storage / "rkhs" / "test").iterdir(), key=lambda path: path.stat().st_mtime)
        return load_arrays(folders[-1], "predictions")

    krr(60, "warm", True)
    assert next(iter(warm_process._learned.values())).children  # the next run has a spare, which forks kernel_gen
    warm, cold = krr(61, "warm", True), krr(61, "cold", False)
    (learned,) = warm_process._learned.values()
    assert learned.frameworks == ("numba",)
    assert sorted(warm) == sorted(cold)
    for name in warm:
        np.testing.assert_array_equal(warm[name], cold[name])
