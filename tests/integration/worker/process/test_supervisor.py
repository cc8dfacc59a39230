"""Real child processes: started in order, restarted, and gone whatever happens to their owner."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.product import ROOT
from worker.errors import ChildFailed, HomeInUse, Interrupted
from worker.process.child import ChildSpec
from worker.process.home_lock import HomeLock
from worker.process.supervisor import Supervisor, Surroundings

ANNOUNCE = "from worker.process.readiness import announce_ready; announce_ready(); "
SLEEP = "import time; time.sleep(600)"
# A pool: two grandchildren, one of them in a session of its own and without our environment, as a broker that writes
# its title over it; each writes its process id.
POOL = """
import os, pathlib, subprocess, sys, time
folder = pathlib.Path(sys.argv[1])
for name, session in (("pool", False), ("stray", True)):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=session,
                             env={} if session else None)
    (folder / f"{name}.pid").write_text(str(child.pid))
(folder / "child.pid").write_text(str(os.getpid()))
from worker.process.readiness import announce_ready
announce_ready()
time.sleep(600)
"""


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def surroundings(tmp_path: Path, said: list[str]) -> Surroundings:
    return Surroundings(tmp_path / "logs", said.append, threading.Event())


def python(name: str, code: str, *arguments: str, **options: object) -> ChildSpec:
    environment = {"PYTHONPATH": str(ROOT)}
    return ChildSpec(name, (sys.executable, "-c", code, *arguments), environment, **options)  # type: ignore[arg-type]


def until(condition: Callable[[], object], seconds: float = 100.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def lives(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def process_ids(folder: Path) -> list[int]:
    return [int((folder / f"{name}.pid").read_text()) for name in ("child", "pool", "stray")]


def test_a_child_is_started_only_after_the_one_before_it_is_ready(surroundings: Surroundings, tmp_path: Path) -> None:
    mark = tmp_path / "first-is-ready"
    first = python(
        "first", f"import pathlib, time; time.sleep(0.3); pathlib.Path({str(mark)!r}).touch(); " + ANNOUNCE + SLEEP
    )
    second = python("second", f"import pathlib; assert pathlib.Path({str(mark)!r}).exists(); " + ANNOUNCE + SLEEP)
    with Supervisor([first, second], surroundings) as supervisor:
        supervisor.start()
        assert set(supervisor.processes()) == {"first", "second"}


def test_leaving_the_supervisor_leaves_no_process_not_even_grandchildren(
    surroundings: Surroundings, tmp_path: Path
) -> None:
    with Supervisor([python("pool", POOL, str(tmp_path))], surroundings) as supervisor:
        supervisor.start()
        processes = process_ids(tmp_path)
        assert all(lives(each) for each in processes)
    assert not any(lives(each) for each in processes)


def test_a_child_that_ignores_the_request_to_stop_is_killed_after_its_limit(surroundings: Surroundings) -> None:
    stubborn = python(
        "stubborn", "import signal; signal.signal(15, signal.SIG_IGN); " + ANNOUNCE + SLEEP, stop_seconds=0.3
    )
    with Supervisor([stubborn], surroundings) as supervisor:
        supervisor.start()
        started = time.monotonic()
    assert 0.3 <= time.monotonic() - started < 60  # the child would go on for 600


def test_in_a_hurry_nothing_is_waited_for(surroundings: Surroundings) -> None:
    code = "import signal; signal.signal(15, signal.SIG_IGN); " + ANNOUNCE + SLEEP
    supervisor = Supervisor([python("stubborn", code, stop_seconds=60)], surroundings)
    supervisor.start()
    started = time.monotonic()
    supervisor.stop(lambda: True)
    assert time.monotonic() - started < 50  # unhurried, it would wait for 60
    assert supervisor.processes() == {}


def test_a_child_may_finish_its_work_before_it_stops(surroundings: Surroundings, tmp_path: Path) -> None:
    code = (
        "import pathlib, signal, sys\n"
        f"def finish(*_): pathlib.Path({str(tmp_path / 'finished')!r}).touch(); sys.exit(0)\n"
        "signal.signal(15, finish)\n" + ANNOUNCE + "signal.pause()"
    )
    with Supervisor([python("tidy", code)], surroundings) as supervisor:
        supervisor.start()
    assert (tmp_path / "finished").exists()


def test_what_stops_last_outlives_the_others(surroundings: Surroundings, tmp_path: Path) -> None:
    code = (
        "import pathlib, signal, sys, time\n"
        "def finish(*_):\n"
        f"    with pathlib.Path({str(tmp_path / 'order')!r}).open('a') as file: file.write(sys.argv[1] + ' ')\n"
        "    sys.exit(0)\n"
        "signal.signal(15, finish)\n" + ANNOUNCE + "signal.pause()"
    )
    specs = [python("broker", code, "broker", stops_last=True), python("worker", code, "worker")]
    with Supervisor(specs, surroundings) as supervisor:
        supervisor.start()
    assert (tmp_path / "order").read_text() == "worker broker "


def test_a_child_that_dies_is_started_again_and_it_is_said(
    surroundings: Surroundings, said: list[str], tmp_path: Path
) -> None:
    with Supervisor([python("pool", POOL, str(tmp_path))], surroundings) as supervisor:
        supervisor.start()
        before = process_ids(tmp_path)
        os.kill(before[0], signal.SIGKILL)

        def again() -> bool:
            supervisor.poll()
            return "pool was started again" in said

        until(again)
        assert said[0] == "pool was ended by SIGKILL; it is started again in 1 s"
        assert not any(lives(each) for each in before)


def test_a_child_that_ends_before_it_is_ready_is_reported_with_its_last_words(surroundings: Surroundings) -> None:
    broken = python("listener", "print('port 11112 is taken'); raise SystemExit(3)")
    with Supervisor([broken], surroundings) as supervisor, pytest.raises(ChildFailed) as caught:
        supervisor.start()
    assert str(caught.value) == "listener ended with status 3"
    assert caught.value.lines == ("port 11112 is taken",)


def test_a_child_that_is_never_ready_is_given_up(surroundings: Surroundings) -> None:
    with (
        Supervisor([python("silent", SLEEP, ready_seconds=0.3)], surroundings) as supervisor,
        pytest.raises(ChildFailed, match="silent was not ready within 0 seconds"),
    ):
        supervisor.start()


def test_a_program_that_does_not_exist_is_named(surroundings: Surroundings) -> None:
    spec = ChildSpec("ghost", ("/nowhere/ghost",))
    with Supervisor([spec], surroundings) as supervisor, pytest.raises(ChildFailed) as caught:
        supervisor.start()
    assert caught.value.lines == ("/nowhere/ghost cannot be started: No such file or directory",)


def test_the_wish_to_stop_ends_the_wait_for_readiness(surroundings: Surroundings) -> None:
    surroundings.stop.set()
    with Supervisor([python("silent", SLEEP)], surroundings) as supervisor, pytest.raises(Interrupted):
        supervisor.start()


def test_what_a_child_prints_goes_to_its_log_file(surroundings: Surroundings) -> None:
    with Supervisor([python("talker", "print('hello'); " + ANNOUNCE + SLEEP)], surroundings) as supervisor:
        supervisor.start()
    assert (surroundings.log_folder / "talker.log").read_text() == "hello\n"


OWNER = """
import pathlib, sys, threading
from worker.process.child import ChildSpec
from worker.process.home_lock import HomeLock
from worker.process.supervisor import Supervisor, Surroundings
folder = pathlib.Path(sys.argv[1])
stop = threading.Event()
lock = HomeLock(folder / "run" / "up.lock")
lock.acquire(5, stop)
spec = ChildSpec("pool", (sys.executable, "-c", sys.argv[2], sys.argv[1]))
with Supervisor([spec], Surroundings(folder / "logs", print, stop, lock)) as supervisor:
    supervisor.start()
    (folder / "ready").touch()
    supervisor.run()
"""


@pytest.fixture
def owner(tmp_path: Path):  # type: ignore[no-untyped-def]
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path), POOL],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        until((tmp_path / "ready").exists)
        yield process
    finally:
        process.kill()
        process.wait()


def test_killing_the_owner_with_9_leaves_no_process(owner: subprocess.Popen[bytes], tmp_path: Path) -> None:
    processes = process_ids(tmp_path)
    owner.kill()
    until(lambda: not any(lives(each) for each in processes), seconds=10)


def test_a_home_is_free_again_only_when_the_last_process_of_a_killed_owner_is_gone(
    owner: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    lock, stop = HomeLock(tmp_path / "run" / "up.lock"), threading.Event()
    with pytest.raises(HomeInUse, match=f"process {owner.pid}"):
        lock.acquire(0, stop)
    processes = process_ids(tmp_path)
    owner.kill()
    lock.acquire(10, stop)
    try:
        assert not any(lives(each) for each in processes)
    finally:
        lock.release()
