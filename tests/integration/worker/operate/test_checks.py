"""What `doctor` finds, each check once good and once bad."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from pynetdicom import AE
from pynetdicom.sop_class import Comprehensive3DSRStorage, Verification

from dicom_io.demo_pacs import DemoPacs
from dicom_io.receive.listener import AllowedCaller
from dicom_io.types import Destination
from models.manifest import SHIPPED
from tests.bundles import write_tiny_bundle
from tests.databases import sqlite_database
from tests.listening import associate, listening
from tests.product import COMMAND, ROOT, clean_environment
from worker.bundles.promotion import run_in_shadow
from worker.operate.checks import (
    Verdict,
    check_broker,
    check_database,
    check_destination,
    check_disk,
    check_listener,
    check_model,
    check_settings,
    checks,
)
from worker.process.home_lock import LOCK_NAME, HomeLock
from worker.settings.current_bundle import shadow_bundle
from worker.settings.settings import Settings, load_settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return load_settings(home=tmp_path, dicom_host="127.0.0.1", dicom_port=port, minimum_free_bytes=0)


@pytest.fixture
def pacs(tmp_path: Path) -> Iterator[DemoPacs]:
    with DemoPacs(tmp_path / "pacs") as pacs:
        yield pacs


def destination(port: int, ae_title: str = "DEMOPACS") -> Destination:
    return Destination("pacs", ae_title, "127.0.0.1", port, "BONEWATCH", timeout_seconds=5)


def test_a_pacs_that_takes_reports_is_good_and_says_which(pacs: DemoPacs) -> None:
    check = check_destination(destination(pacs.port), Settings())
    assert check.verdict is Verdict.GOOD
    assert "Comprehensive 3D SR, Comprehensive SR" in check.found


def test_a_pacs_that_takes_no_report_is_bad() -> None:
    ae = AE(ae_title="ECHOONLY")
    ae.add_supported_context(Verification)
    server = ae.start_server(("127.0.0.1", 0), block=False)
    try:
        check = check_destination(destination(server.server_address[1], "ECHOONLY"), Settings())
    finally:
        server.shutdown()
    assert (check.verdict, bool(check.advice)) == (Verdict.BAD, True)
    assert "accepts no report" in check.found


# pynetdicom forgets to close the socket of a connection that was refused (AssociationSocket._shutdown_socket).
@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket.socket:pytest.PytestUnraisableExceptionWarning")
def test_a_pacs_that_does_not_answer_is_bad_and_the_setting_is_named(settings: Settings) -> None:
    check = check_destination(destination(settings.dicom_port), Settings())
    assert check.verdict is Verdict.BAD
    assert "BONEWATCH_DESTINATIONS" in check.advice


def test_a_listener_that_answers_is_good(tmp_path: Path) -> None:
    with DemoPacs(tmp_path, ae_title="BONEWATCH") as like_ours:
        settings = load_settings(home=tmp_path, dicom_host="127.0.0.1", dicom_port=like_ours.port)
        assert check_listener(settings).verdict is Verdict.GOOD


def test_a_listener_with_a_list_of_callers_listens_and_refuses_doctor_as_set(
    settings: Settings, tmp_path: Path
) -> None:
    with listening(tmp_path, allowed_callers=(AllowedCaller("PACS"),)) as running:
        check = check_listener(as_running(settings, running.port, allowed_callers="PACS"))
    assert check.verdict is Verdict.GOOD
    assert "listens and refuses whoever is not among the allowed callers, as set" in check.found
    assert running.intake.rejections == []


def test_a_listener_that_refuses_what_its_settings_admit_is_another_one(settings: Settings, tmp_path: Path) -> None:
    with listening(tmp_path, allowed_callers=(AllowedCaller("PACS"),)) as running:
        callers = check_listener(as_running(settings, running.port))
        title = check_listener(as_running(settings, running.port, ae_title="OTHER"))
    assert [check.verdict for check in (callers, title)] == [Verdict.BAD, Verdict.BAD]
    assert "started with other settings: listener (BONEWATCH) rejected the association: " in callers.found
    assert "it does not go by that AE title" in title.found


def test_a_listener_that_is_full_is_no_other_program(settings: Settings, tmp_path: Path) -> None:
    with listening(tmp_path, maximum_associations=1) as running:
        assoc = associate(running.port)
        check = check_listener(as_running(settings, running.port))
        assoc.release()
    assert (check.verdict, bool(check.advice)) == (Verdict.NOTE, True)


def as_running(settings: Settings, port: int, **more: object) -> Settings:
    return load_settings(home=settings.home, dicom_host="127.0.0.1", dicom_port=port, **more)


@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket.socket:pytest.PytestUnraisableExceptionWarning")
def test_a_listener_that_does_not_run_is_told_apart_from_a_port_that_is_taken(settings: Settings) -> None:
    assert "the port is free" in check_listener(settings).found
    with socket.socket() as other:
        other.bind(("127.0.0.1", settings.dicom_port))
        assert "in use" in check_listener(settings).found


def test_the_settings_file_is_named_and_so_is_where_one_would_be(tmp_path: Path) -> None:
    assert f"{tmp_path}/bonewatch.toml would be read" in check_settings(load_settings(home=tmp_path)).found
    (tmp_path / "bonewatch.toml").write_text("dicom_port = 11113")
    check = check_settings(load_settings(home=tmp_path))
    assert (check.verdict, check.found) == (Verdict.GOOD, str(tmp_path / "bonewatch.toml"))


def test_a_settings_file_that_was_changed_under_a_running_up_is_told(tmp_path: Path) -> None:
    file = tmp_path / "bonewatch.toml"
    file.write_text("dicom_port = 11113")
    lock = HomeLock(tmp_path / "run" / LOCK_NAME)
    lock.acquire(1, threading.Event())
    os.utime(file, (0, 0))
    assert check_settings(load_settings(home=tmp_path)).verdict is Verdict.GOOD
    os.utime(file, (2**33, 2**33))
    check = check_settings(load_settings(home=tmp_path))
    lock.release()
    assert (check.verdict, check.advice) == (Verdict.NOTE, "stop bonewatch up and start it again")
    assert check_settings(load_settings(home=tmp_path)).verdict is Verdict.GOOD


def test_a_secret_that_others_may_read_is_told(tmp_path: Path) -> None:
    file = tmp_path / "bonewatch.toml"
    file.write_text('archive_token = "s3cret"')
    file.chmod(0o640)
    check = check_settings(load_settings(home=tmp_path))
    assert (check.verdict, check.advice) == (Verdict.NOTE, f"chmod 600 {file}")
    file.chmod(0o600)
    assert check_settings(load_settings(home=tmp_path)).verdict is Verdict.GOOD


def test_what_a_site_has_not_chosen_is_told_with_what_to_write(settings: Settings) -> None:
    told = [check() for name, check in checks(settings) if name == "choice"]
    assert [each.verdict for each in told] == [Verdict.NOTE] * 3
    assert all(f"say in {settings.home}/bonewatch.toml, for instance: " in each.advice for each in told)


def test_doctor_says_what_it_found_and_no_library_does(settings: Settings) -> None:
    pacs = json.dumps([{"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": settings.dicom_port}])
    environment = {**clean_environment({}), "BONEWATCH_DESTINATIONS": pacs, "BONEWATCH_HOME": str(settings.home)}
    environment["BONEWATCH_DICOM_PORT"] = str(settings.dicom_port)
    done = subprocess.run(
        [COMMAND, "doctor"], env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert "✔ model" in done.stdout


def test_the_model_that_ships_is_checked_without_the_seconds_that_torch_takes() -> None:
    code = (
        "import sys, worker.operate.checks as checks; from worker.settings.settings import load_settings\n"
        "print(checks.check_model(load_settings()).verdict.value, 'torch' in sys.modules)"
    )
    environment = {**clean_environment({"home": "/nonexistent"}), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "good False\n"


def test_a_file_of_the_model_that_ships_which_was_damaged_is_bad(settings: Settings, monkeypatch, tmp_path) -> None:
    shipped = shutil.copytree(SHIPPED, tmp_path / "shipped")
    monkeypatch.setattr("worker.operate.checks.SHIPPED", shipped)
    assert check_model(settings).verdict is Verdict.GOOD
    weights = shipped / "detector.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert "does not match its SHA-256" in check_model(settings).found


def test_a_database_without_tables_is_bad_until_it_is_upgraded(settings: Settings, tmp_path: Path) -> None:
    assert "bonewatch db upgrade" in check_database(settings).advice
    sqlite_database(tmp_path).close()
    assert check_database(settings).verdict is Verdict.GOOD


def test_a_broker_that_does_not_run_is_bad(settings: Settings) -> None:
    check = check_broker(settings)
    assert (check.verdict, check.advice) == (Verdict.BAD, "start bonewatch up")


def test_a_bundle_that_is_not_there_is_bad(tmp_path: Path) -> None:
    check = check_model(load_settings(home=tmp_path, bundle=tmp_path / "nothing"))
    assert check.verdict is Verdict.BAD
    assert "bundle.json" in check.found


def test_a_bundle_in_shadow_is_looked_at_where_there_is_one(settings: Settings, tmp_path: Path) -> None:
    assert "model in shadow" not in dict(checks(settings))
    written = write_tiny_bundle(tmp_path / "second")
    run_in_shadow(written, settings.home, datetime.now().astimezone())
    check = dict(checks(settings))["model in shadow"]

    assert check().verdict is Verdict.GOOD
    assert "tiny" in check().found
    both = settings.model_copy(update={"bundle": written})
    assert dict(checks(both))["model in shadow"]().verdict is Verdict.NOTE
    (shadow_bundle(settings.home) / "detector.safetensors").write_bytes(b"damaged")
    assert check().verdict is Verdict.BAD
    assert "bonewatch models shadow" in check().advice


def test_too_little_room_is_bad(settings: Settings, tmp_path: Path) -> None:
    assert check_disk(settings).verdict is Verdict.GOOD
    full = load_settings(home=tmp_path, minimum_free_bytes=2**60)
    assert "make room" in check_disk(full).advice


def test_a_pacs_that_takes_no_picture_which_the_site_wants_is_bad(settings: Settings) -> None:
    ae = AE(ae_title="NOPICTURES")
    ae.add_supported_context(Verification)
    ae.add_supported_context(Comprehensive3DSRStorage)
    server = ae.start_server(("127.0.0.1", 0), block=False)
    wanting = settings.model_copy(update={"marked_image": "findings", "presentation_state": True})
    try:
        checks = [
            check_destination(destination(server.server_address[1], "NOPICTURES"), it) for it in (settings, wanting)
        ]
    finally:
        server.shutdown()
    assert [check.verdict for check in checks] == [Verdict.GOOD, Verdict.BAD]
    assert "no marked image (BONEWATCH_MARKED_IMAGE) and no presentation state" in checks[1].found
