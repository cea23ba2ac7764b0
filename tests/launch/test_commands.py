"""Commands over two local workers: failures, retries, killed workers, logs, Ctrl-C and rerun."""

import fcntl
import os
import shlex
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import psutil
import pytest
from distributed import Client, LocalCluster

from linearized.base.errors import UserError
from linearized.cluster import clients
from linearized.launch.commands import run_commands
from linearized.launch.launch_settings import LaunchSettings
from linearized.launch.launchers import address, local, plain
from linearized.launch.task import BUSY, Task, log_name, run_task

from .waiting import PATIENCE, alive, until

ROOT = Path(__file__).resolve().parents[2]


def python(code, *words):
    """A command of one line that runs `code`."""
    return (sys.executable, "-c", f"exec({textwrap.dedent(code)!r})", *map(str, words))


def said_in(log):
    """A log's lines, without those that tell the command and its end."""
    return [line for line in log.splitlines() if not line.startswith("#")]


@pytest.fixture(scope="module", params=[local, plain], ids=["local", "plain"])
def client(request):
    with request.param.client(LaunchSettings(workers=2, dashboard=0)) as found:
        yield found


@pytest.fixture(scope="module")
def dask_client():
    """Workers that are processes of their own, which a test may kill."""
    with local.client(LaunchSettings(workers=2, dashboard=0)) as found:
        yield found


SHARD = """
import os, pathlib, sys
out = pathlib.Path(sys.argv[1])
if out.exists():
    print("skipped")
else:
    aside = out.with_suffix(".part")
    aside.write_text("whole")
    aside.rename(out)
    print("written")
"""


def test_a_failure_in_the_middle_stops_nothing_and_a_rerun_skips(client, tmp_path):
    commands = [python(SHARD, tmp_path / f"{i}.txt") for i in range(12)]
    commands[5] = python("import sys; print('no such thing', file=sys.stderr); sys.exit(3)")
    logs = tmp_path / "logs"
    for said in ("written", "skipped"):
        results = run_commands(client, commands, logs=logs, retries=0)
        assert [result.argv for result in results] == commands
        assert [result.outcome.code for result in results] == [3 if i == 5 else 0 for i in range(12)]
        assert results[5].outcome.tail.strip() == "no such thing"
        assert all(result.outcome.tail.strip() == said for i, result in enumerate(results) if i != 5)
    assert sorted(path.name for path in tmp_path.glob("*.txt")) == sorted(f"{i}.txt" for i in range(12) if i != 5)
    assert len(list(logs.iterdir())) == 12
    log = Path(results[0].log).read_text()
    assert said_in(log) == ["written", "skipped"] and log.count("# exit code 0") == 2


FLAKY = """
import pathlib, sys
count, fails, code = pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
tried = len(count.read_text()) if count.exists() else 0
count.write_text("x" * (tried + 1))
sys.exit(code if tried < fails else 0)
"""


@pytest.mark.parametrize(
    "fails, code, tries, ends", [(2, 1, 3, 0), (9, 1, 4, 1), (9, 2, 1, 2)], ids=["mends", "never", "misused"]
)
def test_retries(client, tmp_path, fails, code, tries, ends):
    (result,) = run_commands(client, [python(FLAKY, tmp_path / "count", fails, code)], logs=tmp_path, retries=3)
    assert (result.tries, result.outcome.code) == (tries, ends)
    assert len((tmp_path / "count").read_text()) == tries


def test_what_cannot_run_fails_with_a_word(client, tmp_path):
    (result,) = run_commands(client, [("no-such-command", "--x")], logs=tmp_path, retries=0)
    assert result.outcome.code == 127 and "cannot run no-such-command" in result.outcome.tail
    (tmp_path / "file").write_text("")
    (result,) = run_commands(client, [("true",)], logs=tmp_path / "file", retries=0)
    assert result.failed and "cannot start" in result.outcome.tail


SLOW_ONCE = """
import os, pathlib, sys, time
marker = pathlib.Path(sys.argv[1])
if marker.exists():
    sys.exit(0)
def stat(pid):
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
marker.with_suffix(".part").write_text(f"{os.getpid()} {stat(os.getppid())[1]}")  # me, and my guard's parent
marker.with_suffix(".part").rename(marker)
time.sleep(600)
"""


def test_a_killed_worker_is_replaced_and_its_command_ends_with_it(dask_client, tmp_path):
    client = dask_client
    marker = tmp_path / "pids"
    fast = [python(SHARD, tmp_path / f"{i}.txt") for i in range(6)]

    def kill():
        until(marker.exists, "the slow command")
        os.kill(int(marker.read_text().split()[1]), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    results = run_commands(client, [python(SLOW_ONCE, marker), *fast], logs=tmp_path / "logs", retries=2)
    killer.join(PATIENCE)
    assert [result.outcome.code for result in results] == [0] * 7
    command, worker = map(int, marker.read_text().split())
    until(lambda: not alive(command), "the first run of the command to end")
    assert not alive(worker)
    assert Path(results[0].log).read_text().count("# exit code") == 1  # the first run ended without a word


def test_the_command_of_a_retired_worker_moves_and_costs_no_try(tmp_path):
    marker = tmp_path / "pids"
    with local.client(LaunchSettings(workers=3, dashboard=0, retries=0)) as client:

        def retire():
            until(marker.exists, "the slow command")
            (busy,) = (worker for worker, keys in client.processing().items() if keys)
            client.retire_workers([busy])

        retirer = threading.Thread(target=retire)
        retirer.start()
        (result,) = run_commands(client, [python(SLOW_ONCE, marker)], logs=tmp_path / "logs", retries=0)
        retirer.join(PATIENCE)
    assert (result.outcome.code, result.tries) == (0, 1)
    assert not alive(int(marker.read_text().split()[0]))


def test_a_command_waits_for_an_earlier_run_of_itself(tmp_path, monkeypatch):
    code = """
        import os, pathlib, sys, time
        with open(sys.argv[1], "a") as file:
            print("begin", file=file, flush=True); time.sleep(0.3); print("end", file=file, flush=True)
    """
    task = Task(python(code, tmp_path / "trace"), str(tmp_path), str(tmp_path / "log"))
    threads = [threading.Thread(target=run_task, args=(task,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert (tmp_path / "trace").read_text().split() == ["begin", "end"] * 3

    monkeypatch.setattr("linearized.launch.task.PATIENCE", 0.0)
    with (tmp_path / "log").open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        outcome = run_task(task)
    assert outcome.code == BUSY and "earlier run" in outcome.tail


KILL_WORKER = """
import os, pathlib, signal, time
guard = pathlib.Path(f"/proc/{os.getppid()}/stat").read_text().rsplit(")", 1)[1].split()
os.kill(int(guard[1]), signal.SIGKILL)
time.sleep(600)
"""


def test_a_command_that_kills_its_worker_each_time_fails_alone(tmp_path):
    with local.client(LaunchSettings(workers=2, dashboard=0, retries=1)) as client:
        commands = [python(KILL_WORKER), *(python(SHARD, tmp_path / f"{i}.txt") for i in range(6))]
        results = run_commands(client, commands, logs=tmp_path / "logs", retries=1)
    assert [result.outcome.code for result in results] == [None] + [0] * 6
    assert "worker died" in results[0].outcome.tail


def test_a_command_killed_by_a_signal_is_told_and_leaves_nothing(tmp_path):
    code = """
        import os, subprocess
        print(subprocess.Popen(["sleep", "600"]).pid, flush=True)
        os.kill(os.getpid(), 9)
    """
    outcome = run_task(Task(python(code), str(tmp_path), str(tmp_path / "log")))
    assert outcome.code == 128 + signal.SIGKILL
    until(lambda: not alive(int(outcome.tail)), "what the command left running to end")


def test_folders_of_results_are_read_from_the_output(tmp_path):
    code = "print('x' * 5000); print('written to there'); print('it is written to no'); print('written to /a b')"
    for _ in range(2):  # only those of this try
        outcome = run_task(Task(python(code), str(tmp_path), str(tmp_path / "log")))
        assert outcome.written == (str(tmp_path / "there"), "/a b")


def test_a_full_disk_leaves_no_empty_log(tmp_path):
    (tmp_path / "log").symlink_to("/dev/full")  # of length 0, and refuses every write as a full disk does
    with pytest.raises(OSError, match="No space left"):
        run_task(Task(python("pass"), str(tmp_path), str(tmp_path / "log")))
    assert not list(tmp_path.iterdir())


def test_environment_and_folder(tmp_path):
    code = "import os, shutil; print(os.environ['OMP_NUM_THREADS'], os.getcwd(), shutil.which('python'))"
    task = Task(python(code), str(tmp_path), str(tmp_path / "log"), (("OMP_NUM_THREADS", "3"),))
    threads, folder, found = run_task(task).tail.split()
    assert (threads, folder) == ("3", str(tmp_path))
    assert Path(found).parent == Path(sys.executable).parent


def test_each_gpu_has_its_worker_and_all_is_on_loopback(tmp_path):
    settings = LaunchSettings(gpus="0,3", dashboard=0)
    with local.client(settings) as client:
        # Both wait for each other, so that neither worker can take both.
        code = """
            import os, pathlib, sys, time
            me, other = map(pathlib.Path, sys.argv[1:])
            me.touch()
            end = time.monotonic() + 60
            while not other.exists() and time.monotonic() < end: time.sleep(0.01)
            print(os.environ["CUDA_VISIBLE_DEVICES"])
        """
        commands = [python(code, tmp_path / one, tmp_path / two) for one, two in ("ab", "ba")]
        results = run_commands(client, commands, logs=tmp_path)
        information = client.scheduler_info(n_workers=-1)
        addresses = [information["address"], *information["workers"]]
        addresses += [worker["nanny"] for worker in information["workers"].values()]
        assert client.dashboard_link.startswith("http://127.0.0.1:")
        us = [psutil.Process(), *psutil.Process().children(recursive=True)]
        listening = [link for process in us for link in process.net_connections("inet") if link.status == "LISTEN"]
    assert sorted(result.outcome.tail.strip() for result in results) == ["0", "3"]
    assert len(listening) >= 7 and {link.laddr.ip for link in listening} == {"127.0.0.1"}
    assert len(addresses) == 5 and all(place.startswith("tls://127.0.0.1:") for place in addresses)


@pytest.mark.parametrize("gpus", ["0,,1", "0,0"])
def test_bad_gpus(gpus):
    with pytest.raises(UserError, match="--gpus takes"), local.client(LaunchSettings(gpus=gpus)):
        pass


def test_address(tmp_path, monkeypatch):
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        with address.client(LaunchSettings(launcher="scheduler", scheduler=cluster.scheduler_address)) as other:
            (result,) = run_commands(other, [("echo", "hello")], logs=tmp_path)
        assert result.outcome.tail.strip() == "hello"
        assert client.submit(sum, [1, 2]).result(timeout=PATIENCE) == 3  # the cluster lives on
    monkeypatch.setattr(clients, "TIMEOUT", 1)
    for scheduler, words in (("", "needs --scheduler"), ("tcp://127.0.0.1:1", "No Dask scheduler answers")):
        settings = LaunchSettings(launcher="scheduler", scheduler=scheduler)
        with pytest.raises(UserError, match=words), address.client(settings):
            pass


def launch(tmp_path, *flags, commands):
    """`linearized launch` on `commands`, in a process group of its own, as a terminal starts it."""
    todo = tmp_path / "todo.txt"
    todo.write_text("".join(f"{shlex.join(command)}\n" for command in commands))
    dashboard = [] if "--launcher=plain" in flags else ["--dashboard=0"]
    words = [*dashboard, f"--logs={tmp_path / 'logs'}", f"--commands={todo}", *flags]
    return subprocess.Popen(
        [sys.executable, "-m", "linearized", "launch", *words],
        cwd=ROOT, start_new_session=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


SLOW = """
import os, pathlib, sys, time
out, quick = map(pathlib.Path, sys.argv[1:])
out.with_suffix(".pid").write_text(str(os.getpid()))
while not quick.exists(): time.sleep(0.05)
out.write_text("whole")
"""


@pytest.mark.parametrize("launcher", ["local", "plain"])
@pytest.mark.parametrize("how", ["ctrl-c", "kill"])
def test_stopped_and_run_again(tmp_path, how, launcher):
    fast = [python(SHARD, tmp_path / f"{i}.txt") for i in range(2)]
    slow = [python(SLOW, tmp_path / f"slow{i}.txt", tmp_path / "quick") for i in range(4)]
    pids = [tmp_path / f"slow{i}.pid" for i in range(2)]
    first = launch(tmp_path, "--workers=2", f"--launcher={launcher}", commands=[*fast, *slow])
    try:
        until(lambda: all(path.exists() and path.read_text() for path in pids), "two slow commands")
        running = [int(path.read_text()) for path in pids]
        assert all(map(alive, running))
        if how == "ctrl-c":
            os.killpg(first.pid, signal.SIGINT)  # the terminal's way: the whole group
            out, err = first.communicate(timeout=PATIENCE)
            assert first.returncode == 130, err
            assert "The same command goes on" in err and "Traceback" not in err
        else:
            first.kill()
            first.communicate(timeout=PATIENCE)
        until(lambda: not any(map(alive, running)), "the commands to end")
    finally:
        first.kill()
    assert not list(tmp_path.glob("slow*.txt"))

    (tmp_path / "quick").touch()
    second = launch(tmp_path, "--workers=2", f"--launcher={launcher}", commands=[*fast, *slow])
    out, err = second.communicate(timeout=PATIENCE)
    assert second.returncode == 0, err
    assert "6 of 6 done" in out
    assert len(list(tmp_path.glob("slow*.txt"))) == 4
    assert said_in((tmp_path / "logs" / log_name(fast[0])).read_text()) == ["written", "skipped"]


def test_exit_code_and_table_of_a_failure(tmp_path):
    done = launch(tmp_path, "--retries=0", commands=[("true",), ("bash", "-c", "echo too bad; exit 7")])
    out, err = done.communicate(timeout=PATIENCE)
    assert done.returncode == 2
    assert "1 of 2 done" in out and "code 7" in out
    assert "1 of 2 commands failed" in err and "too bad" in err and "Traceback" not in err


def test_help_and_plans_need_no_dask():
    code = "import sys, linearized.cli.launch; sys.exit(bool({'dask', 'distributed', 'rich'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=PATIENCE).returncode == 0


def test_without_dask_the_local_launcher_has_workers_of_its_own(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "distributed", None)  # as Python treats a module that cannot be imported
    with local.client(LaunchSettings(workers=2)) as found:
        results = run_commands(found, [python("print('written')"), python("import sys; sys.exit(2)")], logs=tmp_path)
    assert isinstance(found, plain.PlainClient)
    assert [result.outcome.code for result in results] == [0, 2]
    assert "Dask is not installed" in capsys.readouterr().out


def test_each_gpu_has_its_plain_worker(tmp_path):
    code = "import os, time; time.sleep(1); print(os.environ['CUDA_VISIBLE_DEVICES'])"
    with plain.client(LaunchSettings(gpus="3,5")) as found:
        assert found.nthreads() == {"worker-0": 1, "worker-1": 1}
        results = run_commands(found, [python(code, str(i)) for i in range(2)], logs=tmp_path)
    assert sorted(result.outcome.tail.strip() for result in results) == ["3", "5"]


def test_commands_of_a_plain_client_end_with_its_block(tmp_path):
    with plain.client(LaunchSettings(workers=1)) as found:
        task = Task(
            python(SLOW, tmp_path / "slow.txt", tmp_path / "no"), str(tmp_path), str(tmp_path / "log"), (), "own"
        )
        found.submit(run_task, task, key="slow")
        until(lambda: (tmp_path / "slow.pid").exists() and (tmp_path / "slow.pid").read_text(), "the command")
        running = int((tmp_path / "slow.pid").read_text())
    until(lambda: not alive(running), "the command to end")
