"""What bad input gets, from the command line and over the network: one clear line, recorded, and never a negative."""

from __future__ import annotations

import json

import pytest

from tests import bad_input, scu
from tests.builders import uid
from tests.product import Bonewatch

ANSWERS = {"present", "inconclusive", "absent"}


@pytest.fixture(scope="module")
def analyzed(tmp_path_factory):
    """One `analyze` over everything that is wrong and one sound image, a missing path and an empty folder included."""
    folder = tmp_path_factory.mktemp("bad")
    paths = bad_input.write_all(folder / "files")
    (folder / "nothing").mkdir()
    paths |= {"missing": folder / "missing.dcm", "nothing": folder / "nothing"}
    done = Bonewatch(folder / "home").command("analyze", "--json", *map(str, paths.values()))
    answers = {entry["path"]: entry for entry in json.loads(done.stdout)}
    return done, {name: answers.get(str(path)) for name, path in paths.items()}


@pytest.mark.parametrize("name", [*bad_input.FAILED, "missing", "nothing"])
def test_analyze_says_in_one_line_why_a_file_failed(analyzed, name):
    _, answers = analyzed

    assert answers[name] is not None, "every path gets an entry"
    assert answers[name]["outcome"] == "failed"
    assert bad_input.is_one_clear_line(answers[name]["reason"]), answers[name]["reason"]
    assert not {"probability", "boxes"} & set(answers[name])


def test_analyze_calls_a_report_out_of_scope(analyzed):
    _, answers = analyzed

    assert answers["report.dcm"]["outcome"] == "out_of_scope"
    assert bad_input.is_one_clear_line(answers["report.dcm"]["reason"])


def test_one_bad_file_does_not_stop_the_others_but_shows_in_the_exit_status(analyzed):
    done, answers = analyzed

    assert answers["good.dcm"]["outcome"] in ANSWERS
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_a_reason_names_what_is_wrong(analyzed):
    _, answers = analyzed

    assert "46341" in answers["enormous.dcm"]["reason"]
    assert "1.2.840.10008.9.9.9" in answers["unknown-transfer-syntax.dcm"]["reason"]
    assert "StudyInstanceUID" in answers["without-study.dcm"]["reason"]


def test_a_person_reads_the_same_reasons_without_json(tmp_path):
    paths = bad_input.write_all(tmp_path / "files")

    done = Bonewatch(tmp_path / "home").command("analyze", str(paths["text.dcm"]), str(tmp_path / "missing.dcm"))

    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    assert "missing.dcm" in done.stdout + done.stderr


ACCEPTED = {
    "truncated.dcm": ("pixel", bad_input.truncated),
    "short-pixels.dcm": ("pixel", bad_input.short_pixels),
    "enormous.dcm": ("46341", bad_input.enormous),
}
"""Sound headers, hopeless pixels: taken in, and then failed. The word must stand in the reason."""
REFUSED = {
    "truncated-header.dcm": ({0xC000, 0xA900}, bad_input.truncated_header),
    "without-study.dcm": ({0xC000, 0xA900}, bad_input.without_study),
}
"""Data sets that cannot be filed under any study, and the statuses that say so (PS3.4 table B.2-1)."""


@pytest.fixture(scope="module")
def received(tmp_path_factory):
    """Everything bad was pushed, each on an association of its own, and a sound radiograph after it."""
    folder = tmp_path_factory.mktemp("bad")
    paths = bad_input.write_all(folder / "files")
    bonewatch = Bonewatch(folder / "home")
    try:
        bonewatch.start("up")
        statuses = {}
        for name in [*ACCEPTED, *REFUSED, "report.dcm"]:
            (statuses[name],) = scu.push(bonewatch.port, [scu.message(paths[name])])
        good = scu.message(paths["good.dcm"])
        prose = scu.Message(good.sop_class_uid, uid("prose"), good.transfer_syntax_uid, bad_input.text())
        (statuses["text.dcm"],) = scu.push(bonewatch.port, [prose])
        unknown = scu.Message(good.sop_class_uid, uid("syntax"), bad_input.UNKNOWN_SYNTAX, good.data_set)
        (statuses["unknown"],) = scu.push(bonewatch.port, [unknown])
        (statuses["good.dcm"],) = scu.push(bonewatch.port, [good])
        bonewatch.wait_until_committed(len(ACCEPTED) + 2)
        yield bonewatch, statuses
        bonewatch.stop()
    finally:
        bonewatch.kill()


@pytest.mark.slow
@pytest.mark.parametrize("name", ACCEPTED)
def test_an_image_without_usable_pixels_is_kept_and_failed(received, name):
    bonewatch, statuses = received
    word, make = ACCEPTED[name]

    assert statuses[name] == 0
    message = as_message(bonewatch, name, make())
    (row,) = bonewatch.rows(
        "SELECT i.path, r.outcome, r.reason, r.probability, j.outcome AS of_study FROM instances i "
        "JOIN image_results r ON r.instance_id = i.id JOIN jobs j ON j.id = r.job_id WHERE i.sop_instance_uid = :uid",
        uid=message.sop_instance_uid,
    )
    assert (row["outcome"], row["of_study"], row["probability"]) == ("failed", "failed", None)
    assert bad_input.is_one_clear_line(row["reason"]), row["reason"]
    assert word in row["reason"].lower()
    assert scu.data_set(bonewatch.home / "store" / row["path"]) == message.data_set


@pytest.mark.slow
@pytest.mark.parametrize("name", [*REFUSED, "text.dcm"])
def test_a_data_set_that_belongs_nowhere_is_refused_and_recorded(received, name):
    bonewatch, statuses = received
    allowed, make = REFUSED.get(name, ({0xC000, 0xA900}, bad_input.text))

    assert statuses[name] in allowed
    sop_instance_uid = uid("prose") if name == "text.dcm" else as_message(bonewatch, name, make()).sop_instance_uid
    (row,) = bonewatch.rows("SELECT * FROM rejections WHERE sop_instance_uid = :uid", uid=sop_instance_uid)
    assert row["status"] == statuses[name]
    assert bad_input.is_one_clear_line(row["reason"]), row["reason"]
    kept = (bonewatch.home / "store" / row["quarantine_path"]).read_bytes()
    assert kept.endswith(bad_input.text() if name == "text.dcm" else as_message(bonewatch, name, make()).data_set)


@pytest.mark.slow
def test_a_transfer_syntax_that_nobody_knows_is_not_negotiated_and_recorded(received):
    bonewatch, statuses = received

    assert statuses["unknown"] in {scu.NOT_NEGOTIATED, scu.ABORTED}
    assert not bonewatch.rows("SELECT id FROM instances WHERE sop_instance_uid = :uid", uid=uid("syntax"))
    reasons = [row["reason"] for row in bonewatch.rows("SELECT reason FROM rejections WHERE status IS NULL")]
    assert any("transfer syntax" in reason and bad_input.is_one_clear_line(reason) for reason in reasons)


@pytest.mark.slow
def test_a_report_is_taken_in_as_out_of_scope_and_answered_by_none(received):
    bonewatch, statuses = received

    assert statuses["report.dcm"] == 0
    (row,) = bonewatch.rows(
        "SELECT outcome, report_state FROM v_results WHERE study_instance_uid = :uid", uid=uid("report")
    )
    assert (row["outcome"], row["report_state"]) == ("out_of_scope", "none")


@pytest.mark.slow
def test_what_is_sound_goes_on_and_nothing_bad_reads_as_negative(received):
    bonewatch, statuses = received
    rows = {row["study_instance_uid"]: row["outcome"] for row in bonewatch.rows("SELECT * FROM v_results")}

    assert statuses["good.dcm"] == 0
    assert rows.pop(uid("good")) in ANSWERS
    assert set(rows.values()) == {"failed", "out_of_scope"}


def as_message(bonewatch, name: str, content: bytes) -> scu.Message:
    path = bonewatch.home.parent / f"again-{name}"
    path.write_bytes(content)
    return scu.message(path)
