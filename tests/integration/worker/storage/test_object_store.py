"""The store in object storage: what a folder promises, over a real server, also when that is away."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import time
from datetime import UTC, datetime

import pytest

from dicom_io.errors import HeaderError, PathOutside, StoreError
from dicom_io.header.header import read_header
from dicom_io.header.scope import ScopeRule
from dicom_io.receive.reception import Reception
from dicom_io.store import bucket as object_store
from dicom_io.store.stores import open_store
from dicom_io.types import Peer
from tests.builders import build_cr, part10_bytes, ramp
from tests.databases import only
from tests.listening import listening, request_for
from tests.object_storage import BUCKET, object_server
from tests.scu import data_set
from worker.db.tables import Instance, Rejection
from worker.reception.intake import SqlIntake
from worker.storage.unrecorded import AGE, REST, UnrecordedFiles


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with object_server(tmp_path_factory.mktemp("moto")) as running:
        yield running


@pytest.fixture
def empty(server):
    """The server with nothing in its bucket."""
    client = server.client()
    for name in client.find(BUCKET):
        client.rm_file(name)
    return server


def store_at(folder, storage):
    return open_store(folder, 0, storage)


@pytest.fixture
def store(empty, tmp_path):
    return store_at(tmp_path / "here", empty.storage)


@pytest.fixture
def elsewhere(empty, tmp_path):
    """The same store as another machine sees it."""
    return store_at(tmp_path / "elsewhere", empty.storage)


def put(store, part10):
    return store.put(part10, read_header(part10))


def test_what_one_machine_stores_another_reads_bit_for_bit(store, elsewhere):
    part10 = part10_bytes(build_cr())
    stored = put(store, part10)
    assert elsewhere.path(stored.path).read_bytes() == part10
    assert stored.size_bytes == len(part10)


def test_a_bare_data_set_is_digested_as_on_a_folder(store, elsewhere, tmp_path):
    original = tmp_path / "original.dcm"
    original.write_bytes(part10_bytes(build_cr()))
    stored = store.put_data_set(io.BytesIO(data_set(original)), read_header(original))
    assert stored.digest == hashlib.sha256(data_set(original)).hexdigest()
    assert data_set(elsewhere.path(stored.path)) == data_set(original)


def test_another_content_under_the_same_uid_does_not_replace_the_first(store, empty):
    first = put(store, part10_bytes(build_cr()))
    second = put(store, part10_bytes(build_cr(BodyPartExamined="FOOT")))
    assert empty.names() == sorted([first.path, second.path])


def test_storing_the_same_twice_keeps_one_object(store, elsewhere, empty):
    part10 = part10_bytes(build_cr())
    assert put(store, part10) == put(elsewhere, part10)
    assert len(empty.names()) == 1


def test_a_report_that_another_machine_replaced_is_read_as_it_is_now(store, elsewhere):
    first = store.put_report(part10_bytes(build_cr(BodyPartExamined="HAND")), "1.2.3")
    replaced = part10_bytes(build_cr(BodyPartExamined="FOOT"))
    elsewhere.put_report(replaced, "1.2.3")
    assert store.path(first.path).read_bytes() == replaced


def test_a_file_that_nobody_stored_has_a_path_where_nothing_is(store):
    assert not store.path("instances/1.2/1.2.3/1.2.3.4.0123456789abcdef.dcm").exists()
    assert not store.path("reports/1.2.3.dcm").exists()


def test_an_empty_bucket_and_one_that_is_not_there_are_told_from_a_missing_file(store, tmp_path, empty):
    assert store.is_empty()
    put(store, part10_bytes(build_cr()))
    assert not store.is_empty()
    elsewhere = object_store.replace(empty.storage, url="s3://no-such-bucket/site")
    assert store_at(tmp_path / "wrong", elsewhere).is_empty()


def test_quarantine_moves_an_object_and_may_be_repeated(store, elsewhere, empty):
    stored = put(store, part10_bytes(build_cr()))
    names = {store.quarantine(stored, "1.2.3"), store.quarantine(stored, "1.2.3")}
    assert names == {f"quarantine/1.2.3.{stored.digest[:16]}.dcm"} == set(empty.names())
    assert elsewhere.path(names.pop()).exists()


def test_a_discarded_object_is_gone_and_may_be_discarded_again(store, empty):
    stored = put(store, part10_bytes(build_cr()))
    store.discard(stored)
    store.discard(stored)
    assert empty.names() == []
    assert not store.path(stored.path).exists()


@pytest.mark.parametrize("relative", ["../outside", "/etc/passwd", "reports/../../outside", ".", ""])
def test_no_path_leads_out_of_the_store(store, relative):
    with pytest.raises(PathOutside):
        store.path(relative)


def test_a_report_is_never_named_by_anything_but_a_uid(store, empty):
    with pytest.raises(HeaderError):
        store.put_report(part10_bytes(build_cr()), "../escape")
    assert empty.names() == []


def test_an_object_that_did_not_arrive_whole_is_no_success(store, monkeypatch):
    monkeypatch.setattr(store.filesystem, "info", lambda *_, **__: {"size": 7})
    with pytest.raises(StoreError, match="does not hold"):
        store.put_report(part10_bytes(build_cr()), "1.2.3")


def test_a_server_that_is_away_is_a_store_error_and_the_next_try_succeeds(empty, tmp_path):
    store = store_at(tmp_path / "here", empty.impatient())
    part10 = part10_bytes(build_cr())
    empty.service.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(StoreError, match="object storage"):
            put(store, part10)
        with pytest.raises(StoreError, match="object storage"):
            store_at(tmp_path / "elsewhere", empty.impatient()).path("instances/1/2/3.dcm")
    finally:
        empty.service.send_signal(signal.SIGCONT)
    assert store_at(tmp_path / "elsewhere", empty.storage).path(put(store, part10).path).read_bytes() == part10


def test_a_wrong_address_or_a_wrong_bucket_is_a_store_error(empty, tmp_path):
    for wrong in ({"endpoint": "http://127.0.0.1:9"}, {"url": "s3://no-such-bucket/site"}):
        store = store_at(tmp_path / "here", object_store.replace(empty.impatient(), **wrong))
        with pytest.raises(StoreError, match="object storage"):
            put(store, part10_bytes(build_cr()))


def test_a_sender_is_told_to_come_again_while_the_storage_is_away(empty, tmp_path):
    with listening(tmp_path, store=store_at(tmp_path / "here", empty.impatient())) as running:
        empty.service.send_signal(signal.SIGSTOP)
        try:
            assert running.push(request_for(build_cr())) == [0xA700]
        finally:
            empty.service.send_signal(signal.SIGCONT)
        assert running.intake.files == {}
        assert running.push(request_for(build_cr())) == [0x0000]
        assert len(empty.names()) == 1


def test_the_same_uid_with_other_content_is_refused_and_kept_aside(empty, tmp_path):
    with listening(tmp_path, store=store_at(tmp_path / "here", empty.storage)) as running:
        assert running.push(request_for(build_cr())) == [0x0000]
        assert running.push(request_for(build_cr(pixels=ramp()[::-1]))) == [0x0111]
    assert sorted(name.partition("/")[0] for name in empty.names()) == ["instances", "quarantine"]


def test_the_cache_stays_within_its_bound_and_leaves_what_is_in_use(empty, tmp_path):
    part10 = part10_bytes(build_cr())
    small = object_store.replace(empty.storage, cache_bytes=3 * len(part10))
    store = store_at(tmp_path / "here", small)
    stored = [put(store, part10_bytes(build_cr(instance=f"cache-{number}"))) for number in range(5)]
    old = time.time() - 2 * object_store.IN_USE_SECONDS
    for each in stored[:3]:
        os.utime(store.local.path(each.path), (old, old))
    put(store, part10_bytes(build_cr(instance="cache-5")))
    assert [store.local.path(each.path).exists() for each in stored] == [False, False, False, True, True]
    assert all(store.path(each.path).exists() for each in stored)


def test_a_file_is_held_only_where_the_storage_has_it_whatever_this_machine_remembers(store, empty):
    stored = put(store, part10_bytes(build_cr()))
    assert store.holds(stored)
    empty.client().rm_file(f"{BUCKET}/site/{stored.path}")
    assert store.local.path(stored.path).exists()
    assert not store.holds(stored)


def test_everything_received_is_listed_also_beyond_a_page_and_what_never_left_this_machine(
    store, elsewhere, tmp_path, monkeypatch
):
    stored = [put(elsewhere, part10_bytes(build_cr(instance=f"listed-{number}"))) for number in range(3)]
    store.put_report(part10_bytes(build_cr()), "1.2.3")
    left = store.local.put(part10 := part10_bytes(build_cr(instance="left-here")), read_header(part10))
    ask = store.filesystem.call_s3
    monkeypatch.setattr(store.filesystem, "call_s3", lambda *what, **how: ask(*what, **how, MaxKeys=2))

    listed = dict(store.received())

    assert sorted(listed) == sorted(each.path for each in [*stored, left])
    assert all(abs(moment - time.time()) < 600 for moment in listed.values())


def test_an_upload_that_fails_leaves_no_copy_on_this_machine(empty, tmp_path):
    store = store_at(tmp_path / "here", empty.impatient())
    empty.service.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(StoreError):
            put(store, part10_bytes(build_cr()))
    finally:
        empty.service.send_signal(signal.SIGCONT)
    assert list(store.local.root.rglob("*.dcm")) == []


def test_an_object_without_a_row_is_taken_in_from_the_storage(store, database, clock):
    part10 = part10_bytes(build_cr())
    stored = put(store, part10)
    clock.now = datetime.now(UTC) + AGE
    intake = SqlIntake(database, ScopeRule(), backoff=float, clock=clock)
    files = UnrecordedFiles(database, store, Reception(store, intake), 1 << 24, clock)

    assert (files.step(), only(database, Instance).path) == (1, stored.path)
    clock.advance(REST.total_seconds())
    assert files.step() == 0


def test_an_object_that_a_row_has_no_use_for_is_moved_to_quarantine_in_the_storage(store, empty, database, clock):
    intake = SqlIntake(database, ScopeRule(), backoff=float, clock=clock)
    kept, leftover = put(store, part10_bytes(build_cr())), put(store, part10_bytes(build_cr(Rows=9, Columns=9)))
    intake.register(read_header(part10_bytes(build_cr())), kept, Peer("PACS", "10.0.0.5"))
    clock.now = datetime.now(UTC) + AGE
    files = UnrecordedFiles(database, store, Reception(store, intake), 1 << 24, clock)

    assert files.step() == 1
    assert empty.names() == sorted([kept.path, only(database, Rejection).quarantine_path])
    assert leftover.path not in empty.names()
