"""What the page shows of one study: its way with times between, and its report as nested lists."""

from __future__ import annotations

from datetime import timedelta
from html.parser import HTMLParser

from tests.databases import MORNING, a_delivery, a_job, a_study, an_image, an_instance
from worker.db.tables import Companion, Delivery, Event
from worker.ui.report_tree import as_lists
from worker.ui.study_view import load_study, with_answer


def after(seconds):
    return MORNING + timedelta(seconds=seconds)


def test_the_way_has_every_hop_in_order_with_the_seconds_between(database):
    with database.write() as session:
        study = a_study(session, last_instance_at=after(5), completed_at=after(30))
        for number, seconds in ((1, 0), (2, 5)):
            an_instance(session, study, number, received_at=after(seconds))
        returned = {"modality": "SR", "out_of_scope_reason": "a report", "received_at": after(300)}
        an_instance(session, study, 3, **returned)
        job = a_job(session, study, created_at=after(30), started_at=after(31), finished_at=after(33.5))
        a_delivery(session, job, sent_at=after(34), committed_at=after(40))
    assert [(hop.what, hop.seconds) for hop in load_study(database, "2.25.1").way] == [
        ("received the first image", None),
        ("received the last of 2 images", 5),
        ("complete: no more images came", 25),
        ("queued", 0),
        ("claimed by a worker", 1),
        ("analysed: absent", 2.5),
        ("sent to pacs", 0.5),
        ("committed by pacs", 6),
    ]


def test_pictures_that_go_with_a_report_have_their_own_steps(database):
    with database.write() as session:
        job = a_job(session, a_study(session))
        report = a_delivery(session, job, sent_at=after(130)).report
        picture = Companion(report_id=report.id, kind="capture", number=1, state="built", path="x")
        picture.deliveries.append(Delivery(destination="pacs", sent_at=after(140)))
        session.add(picture)
    assert [hop.what for hop in load_study(database, "2.25.1").way][-2:] == [
        "sent to pacs",
        "marked image sent to pacs",
    ]


def test_answers_of_several_models_are_kept_apart_and_the_newest_is_shown(database):
    with database.write() as session:
        study = a_study(session)
        image = an_instance(session, study)
        a_job(session, study, model_version="old", outcome="absent")
        newer = a_job(session, study, model_version="new", outcome="present", probability=0.9)
        an_image(session, newer, image, boxes=2, outcome="present")
    found = load_study(database, "2.25.1")
    assert [job.model_version for job in found.jobs] == ["new", "old"]
    assert (found.result.model_version, [len(image.findings) for image in found.images]) == ("new", [2])
    assert f"queued (job {newer.id}, new)" in [hop.what for hop in found.way]


def test_an_earlier_answer_comes_with_its_own_images_boxes_and_report(database):
    with database.write() as session:
        study = a_study(session)
        image = an_instance(session, study)
        older = a_job(session, study, model_version="old", outcome="present", probability=0.8)
        an_image(session, older, image, boxes=1, outcome="present", probability=0.8)
        a_delivery(session, older)
        an_image(session, a_job(session, study, model_version="new"), image)
        a_job(session, study, model_version="next", state="queued", outcome=None, finished_at=None)
    newest = load_study(database, "2.25.1")
    assert [job.model_version for job in newest.answers] == ["new", "old"]
    assert (newest.images[0].outcome, newest.images[0].findings, newest.report) == ("absent", [], None)
    found = with_answer(database, newest, newest.answers[1])
    assert (found.result.model_version, found.result.outcome, found.images[0].outcome) == ("old", "present", "present")
    assert [(box.x1, box.y2) for box in found.images[0].findings] == [(10.5, 44)]
    assert found.report.sop_instance_uid == f"2.25.900{older.id}"


def test_what_visitors_did_is_no_part_of_a_studys_way(database):
    with database.write() as session:
        study = a_study(session)
        for kind, detail in (("page_viewed", {"by": "operator"}), ("requeued", {"reason": "lost", "attempt": 2})):
            session.add(Event(at=MORNING, kind=kind, study_id=study.id, detail=detail))
    assert [hop.what for hop in load_study(database, "2.25.1").events] == ["requeued (reason lost, attempt 2)"]


def test_a_study_that_nobody_sent_is_none(database):
    assert load_study(database, "2.25.404") is None


class Tree(HTMLParser):
    """Collects texts with the depth of the lists around them, and the names of all tags."""

    def __init__(self, text):
        super().__init__()
        self.depth, self.words, self.tags = 0, [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.depth += tag == "ul"

    def handle_endtag(self, tag):
        self.depth -= tag == "ul"

    def handle_data(self, data):
        self.words.append((self.depth, data))


def test_a_report_becomes_nested_lists():
    tree = Tree(as_lists(["Report", "  Finding: Fracture", "    Score: 0.9", "  Finding: Absent"]))
    names = [each for each in tree.words if not each[1].startswith(":")]
    assert names == [(1, "Report"), (2, "Finding"), (3, "Score"), (2, "Finding")]
    assert tree.depth == 0


def test_groups_deep_in_a_report_are_folded():
    assert "details" not in Tree(as_lists(["Report", "  Group", "    Item"])).tags
    tree = Tree(as_lists(["Report", "  Groups", "    Group", "      Item: 1", "      Item: 2"]))
    assert "details" in tree.tags
    assert [depth for depth, words in tree.words if words == "Item"] == [4, 4]


def test_markup_in_a_report_stays_text():
    tree = Tree(as_lists(["Observer: <img src=x onerror=alert(1)>", "  <b>: </ul>"]))
    assert tree.tags == {"ul", "li", "strong"}
    assert (2, ": </ul>") in tree.words


def test_an_empty_report_is_nothing():
    assert as_lists([]) == ""
