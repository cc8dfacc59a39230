import errno
import fcntl
import hashlib
import io
import os
import stat
from pathlib import Path

import pytest
from pydicom import dcmread

from dicom_io.errors import HeaderError, StoreError
from dicom_io.header.header import read_header
from dicom_io.store.folder import InstanceStore
from tests.builders import build_cr, part10_bytes
from tests.scu import data_set


@pytest.fixture
def store(tmp_path):
    return InstanceStore(tmp_path / "store")


def files(store):
    return sorted(path.relative_to(store.root).as_posix() for path in store.root.rglob("*") if path.is_file())


def put(store, part10):
    return store.put(part10, read_header(part10))


def test_a_stored_file_is_the_file_that_was_given(store, tmp_path):
    part10 = part10_bytes(build_cr())
    original = tmp_path / "original.dcm"
    original.write_bytes(part10)
    stored = put(store, part10)
    assert store.path(stored.path).read_bytes() == part10
    assert stored.digest == hashlib.sha256(data_set(original)).hexdigest()
    assert stored.size_bytes == len(part10)


def test_the_place_names_study_series_instance_and_digest(store):
    part10 = part10_bytes(build_cr())
    header, stored = read_header(part10), put(store, part10)
    folder = f"instances/{header.study_instance_uid}/{header.series_instance_uid}"
    assert stored.path == f"{folder}/{header.sop_instance_uid}.{stored.digest[:16]}.dcm"
    assert files(store) == [stored.path]


def test_storing_twice_keeps_one_file(store, tmp_path):
    part10 = part10_bytes(build_cr())
    path = tmp_path / "again.dcm"
    path.write_bytes(part10)
    assert put(store, part10) == store.put(path, read_header(path))
    assert len(files(store)) == 1


def test_another_content_under_the_same_uid_does_not_replace_the_first(store):
    first, second = put(store, part10_bytes(build_cr())), put(store, part10_bytes(build_cr(BodyPartExamined="FOOT")))
    assert files(store) == sorted([first.path, second.path])
    assert dcmread(store.path(first.path)).BodyPartExamined == "HAND"


def test_a_stored_file_that_rotted_is_replaced_by_the_next_copy(store):
    part10 = part10_bytes(build_cr())
    path = store.path(put(store, part10).path)
    path.write_bytes(part10[:-7])
    put(store, part10)
    assert path.read_bytes() == part10


def test_a_bare_data_set_is_stored_byte_for_byte_behind_our_file_meta(store, tmp_path):
    original = tmp_path / "original.dcm"
    original.write_bytes(part10_bytes(build_cr()))
    stored = store.put_data_set(io.BytesIO(data_set(original)), read_header(original))
    assert data_set(store.path(stored.path)) == data_set(original)
    assert read_header(store.path(stored.path)) == read_header(original)


def test_file_and_folders_are_forced_to_disk_before_the_answer(store, monkeypatch):
    synced, sync = [], os.fsync

    def remember(descriptor):
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", remember)
    stored = put(store, part10_bytes(build_cr()))
    series = store.path(stored.path).parent
    assert synced[0].parent.name == "incoming"
    assert {series, series.parent, store.root / "instances", store.root} <= set(synced[1:])


def test_a_write_that_fails_is_a_store_error_and_leaves_nothing_behind(store, monkeypatch):
    def no_space(_descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(StoreError, match="No space left"):
        put(store, part10_bytes(build_cr()))
    assert files(store) == []


def test_nothing_is_written_when_too_little_would_remain_free(tmp_path):
    store = InstanceStore(tmp_path, minimum_free_bytes=1 << 62)
    with pytest.raises(StoreError, match="nearly full"):
        put(store, part10_bytes(build_cr()))
    with pytest.raises(StoreError, match="nearly full"):
        store.spool()
    assert files(store) == []


def test_a_root_that_cannot_be_a_folder_is_a_store_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError):
        put(InstanceStore(tmp_path / "file" / "store"), part10_bytes(build_cr()))


def test_what_is_not_a_part_10_file_is_not_stored(store):
    header = read_header(part10_bytes(build_cr()))
    with pytest.raises(HeaderError):
        store.put(b"not a DICOM file at all", header)


def test_a_report_replaces_its_earlier_version(store):
    first = store.put_report(part10_bytes(build_cr(BodyPartExamined="HAND")), "1.2.3")
    second = store.put_report(part10_bytes(build_cr(BodyPartExamined="FOOT")), "1.2.3")
    assert first.path == second.path == "reports/1.2.3.dcm"
    assert dcmread(store.path(second.path)).BodyPartExamined == "FOOT"


@pytest.mark.parametrize("uid", ["../escape", "1.2/3", "", "..", "a"])
def test_a_report_is_never_named_by_anything_but_a_uid(store, uid):
    with pytest.raises(HeaderError):
        store.put_report(part10_bytes(build_cr()), uid)


@pytest.mark.parametrize("relative", ["../outside", "/etc/passwd", "a/../../outside", ".", ""])
def test_no_path_leads_out_of_the_store(store, relative):
    with pytest.raises(StoreError, match="out of the store"):
        store.path(relative)


def test_a_link_out_of_the_store_is_not_followed(store):
    store.root.mkdir()
    (store.root / "link").symlink_to("/etc")
    with pytest.raises(StoreError, match="out of the store"):
        store.path("link/passwd")


def test_quarantine_moves_a_stored_file_and_may_be_repeated(store):
    stored = put(store, part10_bytes(build_cr()))
    assert store.quarantine(stored, "1.2.3") == store.quarantine(stored, "1.2.3")
    assert files(store) == [f"quarantine/1.2.3.{stored.digest[:16]}.dcm"]


def test_quarantine_keeps_each_content_once_and_overwrites_none(store):
    names = {store.quarantine(content, "1.2.3") for content in (b"one", b"two", b"one")}
    assert len(names) == 2
    assert {store.path(name).read_bytes() for name in names} == {b"one", b"two"}


def test_a_hostile_name_does_not_name_a_file_in_quarantine(store):
    assert store.quarantine(b"bytes", "../../etc/cron.d/evil").startswith("quarantine/unnamed.")


def test_a_discarded_file_is_gone_and_may_be_discarded_again(store):
    stored = put(store, part10_bytes(build_cr()))
    store.discard(stored)
    store.discard(stored)
    assert files(store) == []


def test_abandoned_files_are_removed_and_those_being_written_are_not(store):
    incoming = store.root / "incoming"
    incoming.mkdir(parents=True)
    (incoming / "dead.part").write_bytes(b"half an image")
    with (incoming / "alive.part").open("wb") as alive:
        fcntl.flock(alive, fcntl.LOCK_EX)
        assert store.remove_abandoned() == 1
    assert files(store) == ["incoming/alive.part"]


def test_a_spool_has_no_name_on_disk(store):
    with store.spool() as spool:
        spool.write(b"something")
        assert files(store) == []


def test_others_on_the_machine_cannot_read_what_is_stored(store):
    path = store.path(put(store, part10_bytes(build_cr())).path)
    assert not path.stat().st_mode & stat.S_IRWXO
    assert not path.parent.stat().st_mode & stat.S_IRWXO
