"""kill -9 at the worst moments: afterwards one result and one report a study, nothing lost, nothing stuck.

All tests share one Orthanc and one home, as a site does that has seen many crashes; each pushes studies of its own.
"""

from __future__ import annotations

import itertools
import os
import signal
import threading
import zlib
from collections import Counter
from pathlib import Path

import pytest
from pydicom import dcmread

from tests import processes, scu
from tests.builders import build_dx, ramp, write_part10
from tests.bundles import write_quiet_bundle
from tests.peers import accepts_connections, running, wait_until
from tests.product import SAMPLES, Bonewatch
from tests.servers import orthanc

pytestmark = [pytest.mark.peer, pytest.mark.slow]

ONE_OF_EACH = """
    SELECT s.study_instance_uid, count(DISTINCT j.id) AS jobs, count(DISTINCT r.id) AS reports
    FROM studies s LEFT JOIN jobs j ON j.study_id = s.id LEFT JOIN reports r ON r.job_id = j.id
    GROUP BY s.study_instance_uid
"""
FOR_PROCESSING = "1.2.840.10008.5.1.4.1.1.1.1.1"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """An Orthanc and a bonewatch that know each other, both killed at the end whatever happened."""
    folder = tmp_path_factory.mktemp("crashes")
    bonewatch = Bonewatch(folder / "home", bundle=str(write_quiet_bundle(folder / "bundle")))
    with orthanc(folder / "pacs", bonewatch.port) as pacs:
        bonewatch.settings["destinations"] = [pacs.destination()]
        try:
            yield pacs, bonewatch
        finally:
            bonewatch.kill()


@pytest.fixture
def pair(site):
    """The same, with `up` running, whatever the test before has done to it."""
    pacs, bonewatch = site
    if not accepts_connections(bonewatch.port):
        bonewatch.kill()
        bonewatch.start("up")
    return pacs, bonewatch


def copies_of_samples(folder: Path, names: list[str]) -> list[scu.Message]:
    """Return the requests that push these samples as studies that nobody has seen before."""
    messages = []
    for path in [path for name in names for path in sorted(SAMPLES.glob(f"{name}*/*.dcm"))]:
        copy = folder / f"{path.parent.name}-{path.name}"
        scu.rename(dcmread(path), f"{zlib.crc32(folder.name.encode())}").save_as(copy)
        messages.append(scu.message(copy))
    assert messages
    return messages


def assert_one_result_and_one_report_a_study(pacs, bonewatch, messages) -> None:
    expected = set(studies_of(bonewatch, messages))
    rows = {row["study_instance_uid"]: row for row in bonewatch.rows(ONE_OF_EACH)}
    assert {(rows[study]["jobs"], rows[study]["reports"]) for study in expected} == {(1, 1)}
    doubled = "SELECT job_id FROM image_results GROUP BY job_id, instance_id, frame_number HAVING count(*) > 1"
    assert not bonewatch.rows(doubled)
    shown = bonewatch.rows("SELECT study_instance_uid, report_state FROM v_results")
    assert sorted(row["study_instance_uid"] for row in shown if row["study_instance_uid"] in expected) == sorted(
        expected
    )
    assert {row["report_state"] for row in shown} == {"committed"}
    in_pacs = Counter(pacs.study_of(name) for name in pacs.instances("SR"))
    assert {study: in_pacs[study] for study in expected} == dict.fromkeys(expected, 1)


def studies_of(bonewatch, messages) -> list[str]:
    found = bonewatch.rows(
        "SELECT i.sop_instance_uid, s.study_instance_uid FROM instances i JOIN studies s ON s.id = i.study_id"
    )
    by_instance = {row["sop_instance_uid"]: row["study_instance_uid"] for row in found}
    return [by_instance[message.sop_instance_uid] for message in messages]


def long_studies(folder: Path) -> list[scu.Message]:
    """Return the requests that push two studies of so many images that they are met while they are analysed."""
    messages = []
    for study, number in itertools.product(range(2), range(40)):
        words = {"study": f"long-{study}", "instance": f"image-{number}", "InstanceNumber": number + 1}
        ds = build_dx(**words, pixels=ramp(120, 160))
        messages.append(scu.message(write_part10(ds, folder / f"long-{study}-{number}.dcm")))
    return messages


def make_push(folder: Path) -> list[Path]:
    """Return the files of six studies: one radiograph to analyse each, then seven images that are out of scope."""
    files = []
    for study in range(6):
        for number in range(8):
            extra = {} if number == 0 else {"SOPClassUID": FOR_PROCESSING, "PresentationIntentType": "FOR PROCESSING"}
            words = {"study": f"crash-{study}", "instance": f"image-{number}"}
            patient = {"PatientID": f"TEST-{study}", "InstanceNumber": number + 1}
            ds = build_dx(**words, **patient, **extra, pixels=ramp(240, 320))
            files.append(write_part10(ds, folder / f"{study}-{number}.dcm"))
    return files


class Pusher(threading.Thread):
    """Pushes messages one after the other on one association until it breaks; `acknowledged` grows meanwhile."""

    def __init__(self, port: int, messages: list[scu.Message]) -> None:
        super().__init__()
        self.acknowledged: list[scu.Message] = []
        self._port, self._messages = port, messages

    def run(self) -> None:
        assoc = scu.associate(self._port, self._messages)
        for message in self._messages:
            if scu.store(assoc, message) != 0:
                break
            self.acknowledged.append(message)
        scu.end(assoc)


def test_everything_killed_in_the_middle_of_a_push_keeps_what_was_acknowledged(pair, tmp_path):
    pacs, bonewatch = pair
    files = {message.sop_instance_uid: path for path in make_push(tmp_path) for message in [scu.message(path)]}
    messages = [scu.message(path) for path in files.values()]
    before = bonewatch.one("SELECT count(*) FROM studies")

    pusher = Pusher(bonewatch.port, messages)
    pusher.start()
    wait_until(lambda: len(pusher.acknowledged) >= 11, 60, "eleven instances acknowledged", every=0.001)
    bonewatch.kill()
    pusher.join(60)
    assert 11 <= len(pusher.acknowledged) < len(messages), "killed too late to show anything"

    bonewatch.start("up")
    for message in pusher.acknowledged:
        assert_is_stored(bonewatch, message)
    rest = [message for message in messages if message not in pusher.acknowledged]
    assert set(scu.push(bonewatch.port, rest)) == {0}

    bonewatch.wait_until_committed(before + 6, seconds=120)
    for message in messages:
        assert_is_stored(bonewatch, message)
    assert_one_result_and_one_report_a_study(pacs, bonewatch, messages)
    assert len(set(studies_of(bonewatch, messages))) == 6


def assert_is_stored(bonewatch: Bonewatch, message: scu.Message) -> None:
    path = bonewatch.one("SELECT path FROM instances WHERE sop_instance_uid = :uid", uid=message.sop_instance_uid)
    assert scu.data_set(bonewatch.home / "store" / path) == message.data_set


def test_when_up_itself_is_killed_its_children_go_too_and_the_next_up_starts(pair, tmp_path):
    pacs, bonewatch = pair
    messages = copies_of_samples(tmp_path, ["02"])
    before = bonewatch.one("SELECT count(*) FROM studies")
    family = [pid for pid in processes.tree(bonewatch.main.pid) if pid != bonewatch.main.pid]
    assert len(family) >= 4, "broker, schedule, work, listen"

    bonewatch.main.send_signal(signal.SIGKILL)
    assert bonewatch.main.wait(60) == -signal.SIGKILL
    wait_until(lambda: not any(map(processes.is_alive, family)), 30, "the children of a killed `up` have ended")
    assert not processes.left_behind(known=running())

    bonewatch.start("up")
    assert scu.push(bonewatch.port, messages) == [0]
    bonewatch.wait_until_committed(before + 1)
    assert_one_result_and_one_report_a_study(pacs, bonewatch, messages)


def test_a_clean_stop_in_the_middle_of_work_leaves_no_process_and_loses_nothing(pair, tmp_path):
    pacs, bonewatch = pair
    messages = long_studies(tmp_path)
    before = bonewatch.one("SELECT count(*) FROM studies")
    assert set(scu.push(bonewatch.port, messages)) == {0}
    wait_until(lambda: bonewatch.rows("SELECT id FROM jobs WHERE state = 'running'"), 90, "an analysis", every=0.01)

    # What a terminal's Ctrl-C does: the signal goes to the whole foreground group.
    os.killpg(bonewatch.main.pid, signal.SIGINT)
    assert bonewatch.main.wait(60) == 0
    assert not processes.left_behind(known=running())

    bonewatch.start("up")
    bonewatch.wait_until_committed(before + 2)
    assert_one_result_and_one_report_a_study(pacs, bonewatch, messages)
    bonewatch.stop()
