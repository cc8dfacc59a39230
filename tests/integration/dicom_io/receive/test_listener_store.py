"""C-STORE through a real association on loopback: what is kept, what is answered, what is recorded."""

import dataclasses
import io
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
)

from dicom_io.errors import StoreError
from dicom_io.store.folder import InstanceStore
from dicom_io.types import Registration
from tests.builders import build_cr, build_dx, part10_bytes, ramp
from tests.fakes import FakeIntake
from tests.listening import listening, request_for, request_for_part10
from tests.scu import push

REAL_FILES = (
    "CT_small.dcm",  # Explicit VR Little Endian
    "MR_small_implicit.dcm",
    "MR_small_bigendian.dcm",
    "image_dfl.dcm",  # deflated
    "JPEG2000.dcm",
    "693_J2KR.dcm",  # JPEG 2000 lossless
    "JPGLosslessP14SV1_1s_1f_8b.dcm",
    "SC_rgb_jpeg_dcmtk.dcm",  # JPEG baseline
    "MR_small_jpeg_ls_lossless.dcm",
    "MR_small_RLE.dcm",
    "reportsi.dcm",  # a structured report
)


@pytest.mark.parametrize("name", REAL_FILES)
def test_a_real_data_set_is_kept_bit_for_bit(tmp_path, name):
    request = request_for_part10(Path(get_testdata_file(name)).read_bytes())
    with listening(tmp_path) as running:
        assert running.push(request) == [0x0000]
    stored = running.intake.files[request.sop_instance_uid]
    assert running.data_set(stored) == request.data_set
    assert dcmread(running.store.path(stored.path)).file_meta.TransferSyntaxUID == request.transfer_syntax_uid


def test_what_is_recorded_names_the_peer_and_the_header(tmp_path):
    with listening(tmp_path) as running:
        assert running.push(request_for(build_dx())) == [0x0000]
    (peer,), (header,) = running.intake.peers, running.intake.headers
    assert (peer.ae_title, peer.address) == ("TESTSCU", "127.0.0.1")
    assert (header.modality, header.rows) == ("DX", 24)
    assert running.intake.rejections == []


def test_the_same_instance_twice_is_success_and_stored_once(tmp_path):
    with listening(tmp_path) as running:
        assert running.push(request_for(build_cr()), request_for(build_cr())) == [0x0000, 0x0000]
        assert running.intake.registrations == [Registration.NEW, Registration.DUPLICATE]
        assert len(running.files()) == 1


def test_a_file_that_is_deleted_while_it_comes_again_is_stored_once_more(tmp_path):
    class Deleting(FakeIntake):
        def register(self, header, stored, peer):
            if super().register(header, stored, peer) is Registration.NEW:
                return Registration.NEW
            running.store.discard(stored)  # somebody deleted it between the look at the store and this record
            return Registration.RESTORED

    with listening(tmp_path, Deleting()) as running:
        request = request_for(build_cr())
        assert running.push(request, request) == [0x0000, 0x0000]
        assert running.data_set(running.intake.files[request.sop_instance_uid]) == request.data_set


def test_the_same_uid_with_another_image_is_refused_quarantined_and_recorded(tmp_path):
    with listening(tmp_path) as running:
        first, second = request_for(build_cr()), request_for(build_cr(BodyPartExamined="FOOT", pixels=ramp()[::-1]))
        assert running.push(first, second, second) == [0x0000, 0x0111, 0x0111]
        assert running.data_set(running.intake.files[first.sop_instance_uid]) == first.data_set
        assert len(running.files()) == 1
        (kept,) = running.files("quarantine")
    assert dcmread(kept).BodyPartExamined == "FOOT"
    rejection = running.intake.rejections[0]
    assert (rejection.code, rejection.status) == ("duplicate_uid", 0x0111)
    assert rejection.sop_instance_uid == first.sop_instance_uid
    assert running.store.path(rejection.quarantine_path) == kept


def test_the_same_image_with_a_corrected_header_takes_the_place_of_the_first(tmp_path):
    with listening(tmp_path) as running:
        first, second = request_for(build_cr()), request_for(build_cr(PatientID="TEST-CORRECTED"))
        assert running.push(first, second, second) == [0x0000, 0x0000, 0x0000]
        assert running.data_set(running.intake.files[first.sop_instance_uid]) == second.data_set
        assert [each.value for each in running.intake.registrations] == ["new", "conflict", "replaced", "duplicate"]
        assert len(running.files()) == 1
        assert running.files("quarantine") == []


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_the_same_object_in_another_uncompressed_encoding_is_a_duplicate(tmp_path, syntax):
    with listening(tmp_path) as running:
        again = build_dx()
        again.file_meta.TransferSyntaxUID = syntax
        if syntax == ExplicitVRBigEndian:
            again.PixelData = b"".join(again.PixelData[i : i + 2][::-1] for i in range(0, len(again.PixelData), 2))
        first, second = request_for(build_dx()), request_for(again)
        assert first.data_set != second.data_set
        assert running.push(first, second) == [0x0000, 0x0000]
        assert running.data_set(running.intake.files[first.sop_instance_uid]) == first.data_set
        assert len(running.files()) == 1
    assert running.intake.rejections == []


def test_a_change_of_one_pixel_in_another_encoding_is_a_conflict(tmp_path):
    changed = build_dx(transfer_syntax=ImplicitVRLittleEndian)
    changed.PixelData = b"\x01" + changed.PixelData[1:]
    with listening(tmp_path) as running:
        assert running.push(request_for(build_dx()), request_for(changed)) == [0x0000, 0x0111]


def test_many_associations_with_the_same_instance_at_once_leave_one_file(tmp_path):
    request = request_for(build_cr())
    with listening(tmp_path) as running, ThreadPoolExecutor(6) as pool:
        statuses = list(pool.map(lambda _number: push(running.port, [request]), range(6)))
        assert statuses == [[0x0000]] * 6
        assert len(running.files()) == 1
    assert sorted(running.intake.registrations) == [Registration.DUPLICATE] * 5 + [Registration.NEW]


def test_success_is_answered_only_after_file_and_record(tmp_path):
    class Watching(FakeIntake):
        def register(self, header, stored, peer):
            seen.append(running.store.path(stored.path).read_bytes()[128:132])
            assert released.wait(60)
            return super().register(header, stored, peer)

    seen, released = [], threading.Event()
    with listening(tmp_path, Watching()) as running, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(running.push, request_for(build_cr()))
        assert not answer.done()
        released.set()
        assert answer.result(60) == [0x0000]
    assert seen == [b"DICM"]


def test_an_intake_that_is_down_means_later_and_the_retry_succeeds(tmp_path):
    with listening(tmp_path) as running:
        running.intake.unavailable = True
        assert running.push(request_for(build_cr())) == [0xA700]
        assert running.intake.files == {}
        running.intake.unavailable = False
        assert running.push(request_for(build_cr())) == [0x0000]
        assert len(running.files()) == 1


def test_a_store_that_cannot_write_means_later_and_is_recorded_once_a_minute(tmp_path):
    class Full(InstanceStore):
        def put_data_set(self, data_set, header):
            raise StoreError("the store cannot be used: No space left on device")

    with listening(tmp_path, store=Full(tmp_path / "store")) as running:
        assert running.push(request_for(build_cr()), request_for(build_cr())) == [0xA700, 0xA700]
    assert running.only_rejection[:2] == ("store_unavailable", 0xA700)


def test_a_disk_that_is_nearly_full_means_later(tmp_path):
    with listening(tmp_path, minimum_free_bytes=1 << 62) as running:
        assert running.push(request_for(build_cr())) == [0xA700]
        assert running.files() == []


def test_an_unexpected_error_of_ours_is_a_failure_and_recorded_without_its_words(tmp_path):
    class Broken(FakeIntake):
        def register(self, header, stored, peer):
            raise ZeroDivisionError(f"patient {header.patient_id}")

    with listening(tmp_path, Broken()) as running:
        assert running.push(request_for(build_cr())) == [0x0110]
    assert running.only_rejection[:2] == ("internal_error", 0x0110)
    assert "TEST-0001" not in repr(running.intake.rejections)


def test_a_refusal_that_cannot_be_recorded_means_later(tmp_path):
    with listening(tmp_path) as running:
        running.intake.unavailable = True
        nonsense = dataclasses.replace(request_for(build_cr()), data_set=b"no data set at all")
        assert running.push(nonsense) == [0xA700]


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"])
def test_a_data_set_without_an_identifier_is_refused_quarantined_and_recorded(tmp_path, keyword):
    whole = request_for(build_cr())
    ds = build_cr()
    delattr(ds, keyword)
    part10 = part10_bytes(ds)
    start = part10.index(b"\x08\x00\x05\x00CS")
    with listening(tmp_path) as running:
        assert running.push(dataclasses.replace(whole, data_set=part10[start:])) == [0xA900]
        assert running.files() == []
        (kept,) = running.files("quarantine")
        assert kept.read_bytes().endswith(part10[start:])
    assert running.only_rejection == ("header_incomplete", 0xA900, whole.sop_instance_uid)


def test_a_data_set_that_is_not_what_the_command_says_is_refused(tmp_path):
    request = request_for(build_cr())
    with listening(tmp_path) as running:
        other_instance = dataclasses.replace(request, sop_instance_uid="1.2.3")
        other_class = dataclasses.replace(request, sop_class_uid="1.2.840.10008.5.1.4.1.1.2")
        assert running.push(other_instance) == [0xA900]
        assert running.push(other_class) == [0xA900]
        assert running.files() == []
    assert {each.code for each in running.intake.rejections} == {"command_mismatch"}


@pytest.mark.parametrize(
    "data_set",
    [b"This is a text file.", b"\0" * 7, part10_bytes(build_cr())[500:700], b"\x08\x00\x05\x00CS\xff\xffISO"],
    ids=["text", "zeros", "middle", "cut off"],
)
def test_what_cannot_be_parsed_is_refused_quarantined_and_recorded(tmp_path, data_set):
    request = dataclasses.replace(request_for(build_cr()), data_set=data_set)
    with listening(tmp_path) as running:
        assert running.push(request) == [0xC000]
        assert running.files() == []
        assert len(running.files("quarantine")) == 1
    assert running.only_rejection == ("header", 0xC000, request.sop_instance_uid)


@pytest.mark.parametrize("uid", ["../../../../tmp/escape", "1.2/../../3", "..", "/etc/passwd", "1.2.3\\..\\4"])
def test_path_tricks_in_uids_name_nothing(tmp_path, uid):
    honest = request_for(build_cr())
    start, end = honest.data_set.index(b"\x08\x00\x18\x00UI"), honest.data_set.index(b"\x08\x00\x20\x00DA")
    padded = uid.encode() + b"\0" * (len(uid) % 2)
    forged = b"\x08\x00\x18\x00UI" + len(padded).to_bytes(2, "little") + padded
    data_set = honest.data_set[:start] + forged + honest.data_set[end:]
    with listening(tmp_path) as running:
        assert running.push(dataclasses.replace(honest, sop_instance_uid=uid, data_set=data_set)) == [0xA900]
        (kept,) = running.files("quarantine")
    # pynetdicom takes the first of several values in a command, here a harmless one.
    assert kept.name.startswith(("unnamed.", "1.2.3."))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [kept]


def test_hostile_values_do_not_disturb_reception(tmp_path):
    with listening(tmp_path) as running:
        request = request_for(build_cr())
        data_set = request.data_set.replace(b"DA\x08\x0020240102", b"DA\x08\x00\xff\xfe<>&\0\0\0")
        assert data_set != request.data_set
        assert running.push(dataclasses.replace(request, data_set=data_set)) == [0x0000]


def test_an_instance_larger_than_the_limit_is_refused_and_not_kept(tmp_path):
    request = request_for(build_cr())
    with listening(tmp_path, maximum_instance_bytes=len(request.data_set) - 1) as running:
        assert running.push(request) == [0xA700]
        assert running.files() == running.files("incoming") == running.files("quarantine") == []
    assert running.only_rejection == ("too_large", 0xA700, request.sop_instance_uid)


def test_a_large_instance_goes_through_the_disk_and_arrives_whole(tmp_path):
    ds = build_cr()
    ds.add_new(0x7FE00010, "OW", bytes(range(256)) * (6 << 12))
    ds.Rows, ds.Columns = 1024, 3072
    request = request_for(ds)
    assert len(request.data_set) > 6 << 20
    with listening(tmp_path) as running:
        assert running.push(request) == [0x0000]
        assert running.data_set(running.intake.files[request.sop_instance_uid]) == request.data_set
        assert running.files("incoming") == []


@pytest.mark.parametrize(
    "sop_class", ["1.2.840.10008.5.1.4.1.1.11.1", "1.2.840.10008.5.1.4.1.1.1.1.1", "1.3.12.2.1107.5.9.1"]
)
def test_storage_that_is_no_radiograph_is_accepted_too(tmp_path, sop_class):
    ds = build_cr(SOPClassUID=sop_class)
    with listening(tmp_path) as running:
        assert running.push(request_for(ds)) == [0x0000]


def test_a_deflated_data_set_is_not_inflated_on_its_way(tmp_path):
    request = request_for(build_cr(transfer_syntax=DeflatedExplicitVRLittleEndian))
    with listening(tmp_path) as running:
        assert running.push(request) == [0x0000]
        assert running.data_set(running.intake.files[request.sop_instance_uid]) == request.data_set
        assert dcmread(io.BytesIO(running.files()[0].read_bytes())).BodyPartExamined == "HAND"


def test_a_new_run_clears_what_a_dead_one_left_half_written(tmp_path):
    incoming = tmp_path / "store" / "incoming"
    incoming.mkdir(parents=True)
    (incoming / "0123.part").write_bytes(b"half an image")
    with listening(tmp_path) as running:
        assert running.files("incoming") == []
