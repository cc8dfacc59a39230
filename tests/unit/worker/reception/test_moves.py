"""What is believed to come of a C-MOVE of ours, and what that makes of a study."""

import pytest
from sqlalchemy import select

from dicom_io.header.scope import ScopeRule
from dicom_io.types import Peer, StoredFile
from tests.databases import header
from worker.db.tables import Instance, Job, Move, Study
from worker.reception.intake import SqlIntake
from worker.reception.moves import MoveLedger
from worker.study.studies import Models, close_quiet_studies

STUDY = "2.25.1"
PUSH = Peer("PACS", "10.0.0.5")
GET = Peer("PACS", "10.0.0.5", "get")


@pytest.fixture
def register(database, clock):
    intake = SqlIntake(database, ScopeRule(), backoff=float, clock=clock)

    def register(peer, number=1, **values):
        stored = StoredFile(f"instances/{number}.dcm", str(number) * 64, 4711)
        intake.register(header(f"2.25.10{number}", STUDY, **values), stored, peer)

    return register


@pytest.fixture
def ledger(database, clock):
    return MoveLedger(database, "PACS", 1800, clock)


def sources(database):
    with database.read() as session:
        instances = session.scalars(select(Instance.source).order_by(Instance.id)).all()
        return session.scalars(select(Study.source)).one(), list(instances)


def test_what_names_our_c_move_is_moved_and_its_study_the_archives_work(database, register, ledger, clock):
    with ledger.announce(STUDY, 77):
        register(Peer("PACS", "10.0.0.5", move_message_id=77))
    assert sources(database) == ("move", ["move"])
    clock.advance(60)
    close_quiet_studies(database, Models("m"), quiet_seconds=30, now=clock(), limit=9)
    with database.read() as session:
        assert session.scalars(select(Job.lane)).one() == "archive"


def test_a_pacs_that_does_not_name_our_c_move_is_believed_while_it_is_under_way(database, register, ledger):
    with ledger.announce(STUDY, 77):
        register(PUSH)
    assert sources(database) == ("move", ["move"])


@pytest.mark.parametrize(
    "peer",
    [Peer("PACS", "10.0.0.5", move_message_id=78), Peer("OTHER", "10.0.0.6")],
    ids=["another message id", "another AE"],
)
def test_a_claim_that_fits_no_c_move_of_ours_is_a_push(database, register, ledger, peer):
    with ledger.announce(STUDY, 77):
        register(peer)
    assert sources(database) == ("push", ["push"])


def test_a_claim_is_not_believed_before_or_after(database, register, ledger, clock):
    with ledger.announce("2.25.2", 77):
        register(Peer("PACS", "10.0.0.5", move_message_id=77))
    with database.write() as session:
        session.add(Move(study_instance_uid=STUDY, message_id=77, ae_title="PACS", until=clock()))
    clock.advance(1)
    register(Peer("PACS", "10.0.0.5", move_message_id=77), number=2)
    assert sources(database) == ("push", ["push", "push"])


def test_nothing_is_left_on_record_of_a_c_move_that_ended_in_an_error(database, ledger):
    with pytest.raises(RuntimeError), ledger.announce(STUDY, 77):
        raise RuntimeError
    with database.read() as session:
        assert session.scalars(select(Move)).all() == []


def test_an_image_that_is_pushed_makes_a_fetched_study_todays_work(database, register):
    register(GET)
    register(PUSH, number=2)
    assert sources(database) == ("push", ["get", "push"])


def test_the_same_image_pushed_again_makes_a_fetched_study_todays_work(database, register):
    register(GET)
    register(PUSH)
    assert sources(database) == ("push", ["get"])


def test_a_report_that_is_pushed_leaves_a_fetched_study_with_the_archive(database, register):
    register(GET)
    register(PUSH, number=2, sop_class_uid="1.2.840.10008.5.1.4.1.1.88.34", modality="SR")
    assert sources(database) == ("get", ["get", "push"])


def test_fetching_does_not_take_a_study_that_is_just_being_pushed_from_today(database, register):
    register(PUSH)
    register(GET, number=2)
    assert sources(database) == ("push", ["push", "get"])


def test_another_image_of_a_complete_study_that_fetching_brings_is_the_archives_work(database, register, clock):
    register(PUSH)
    clock.advance(60)
    close_quiet_studies(database, Models("m"), quiet_seconds=30, now=clock(), limit=9)
    register(GET, number=2)
    assert sources(database) == ("get", ["push", "get"])
