"""What `doctor` finds, each check once good and once bad."""

import socket
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from pynetdicom import AE
from pynetdicom.sop_class import Comprehensive3DSRStorage, Verification

from dicom_io.demo_pacs import DemoPacs
from dicom_io.types import Destination
from tests.bundles import write_tiny_bundle
from tests.databases import sqlite_database
from worker.checks import (
    Verdict,
    check_broker,
    check_database,
    check_destination,
    check_disk,
    check_listener,
    check_model,
    checks,
)
from worker.current_bundle import shadow_bundle
from worker.promotion import run_in_shadow
from worker.settings import Settings, load_settings


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


@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket.socket:pytest.PytestUnraisableExceptionWarning")
def test_a_listener_that_does_not_run_is_told_apart_from_a_port_that_is_taken(settings: Settings) -> None:
    assert "the port is free" in check_listener(settings).found
    with socket.socket() as other:
        other.bind(("127.0.0.1", settings.dicom_port))
        assert "in use" in check_listener(settings).found


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
