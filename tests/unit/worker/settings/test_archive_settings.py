"""What a site writes about its archive, and what is built of it."""

import pytest

from dicom_io.archive.dicomweb import DicomwebArchive
from dicom_io.archive.query_retrieve import DimseArchive
from tests.databases import sqlite_database
from worker.errors import SettingsError
from worker.reanalysis.archives import build_archive
from worker.settings.settings import load_settings

PACS = '{"name": "pacs", "ae_title": "PACS", "host": "10.0.0.5", "port": 104, "retrieve": "move"}'
WEB = '{"name": "web", "url": "https://pacs.example.org/dicom-web/"}'


def settings(tmp_path, **values):
    return load_settings(home=tmp_path, **values)


@pytest.mark.parametrize(
    ("written", "kind", "source"), [(PACS, DimseArchive, "move"), (WEB, DicomwebArchive, "dicomweb")]
)
def test_an_archive_is_built_as_it_is_written(tmp_path, written, kind, source):
    database = sqlite_database(tmp_path)
    archive = build_archive(settings(tmp_path, archive=written), database)
    assert (type(archive), archive.source) == (kind, source)
    database.close()


def test_without_a_setting_there_is_no_archive(tmp_path):
    database = sqlite_database(tmp_path)
    assert build_archive(settings(tmp_path), database) is None
    database.close()


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ('{"name": "pacs", "ae_title": "PACS", "host": "10.0.0.5"}', "ae_title, host and port, or else url"),
        ('{"name": "pacs", "url": "https://a.example", "port": 104}', "has url"),
        ('{"name": "pacs", "url": "ftp://a.example"}', "is not an address"),
        ('{"name": "pacs", "url": "https://a.example:99999"}', "is not an address"),
        ('{"name": "pacs", "url": "https://me:secret-word@a.example"}', "holds a password"),
        ("pacs", "is not JSON"),
    ],
)
def test_an_archive_that_makes_no_sense_is_refused_in_words(tmp_path, written, words):
    with pytest.raises(SettingsError, match=words) as refused:
        settings(tmp_path, archive=written)
    assert "BONEWATCH_ARCHIVE" in str(refused.value)
    assert "secret-word" not in str(refused.value)


def test_a_token_comes_from_a_file_and_never_into_a_message(tmp_path, monkeypatch):
    secret = tmp_path / "token"
    secret.write_text("secret-word\n")
    monkeypatch.setenv("BONEWATCH_ARCHIVE_TOKEN_FILE", str(secret))
    made = settings(tmp_path, archive=WEB)
    assert made.archive_token.get_secret_value() == "secret-word"
    assert "secret-word" not in repr(made)
    with pytest.raises(SettingsError, match="BONEWATCH_ARCHIVE_USER") as refused:
        settings(tmp_path, archive=WEB, archive_user="me")
    assert "secret-word" not in str(refused.value)
