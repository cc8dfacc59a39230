import pytest

from dicom_io.uids import derive_uid, is_safe_uid, is_valid_uid

LONGEST = "1." + "2" * 62


@pytest.mark.parametrize("text", ["1.2.840.10008.1.1", "0.0", "2.25.1", "5", LONGEST])
def test_a_uid_of_the_standard_is_valid(text):
    assert is_valid_uid(text)
    assert is_safe_uid(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        "1..2",
        ".1",
        "1.",
        "1.2/3",
        "../1.2",
        "1.2\0",
        "1.2\n",
        " 1.2",
        "1.a",
        "1.2-3",
        "-1",
        "١.٢",
        LONGEST + "3",
    ],
)
def test_what_is_no_uid_may_not_name_a_file(text):
    assert not is_valid_uid(text)
    assert not is_safe_uid(text)


def test_a_leading_zero_is_invalid_but_may_name_a_file():
    assert not is_valid_uid("1.2.03")
    assert is_safe_uid("1.2.03")


def test_the_same_parts_give_the_same_uid_for_ever():
    assert derive_uid("study", "digest", "model") == "2.25.129730127936321507703363959230382804674"


def test_derived_uids_are_valid_and_differ_by_every_part_and_boundary():
    uids = {
        derive_uid("ab", "c"),
        derive_uid("a", "bc"),
        derive_uid("abc"),
        derive_uid("abc", ""),
        derive_uid("c", "ab"),
    }
    assert len(uids) == 5
    assert all(is_valid_uid(uid) for uid in uids)


def test_a_uid_from_nothing_is_refused():
    with pytest.raises(ValueError, match="nothing"):
        derive_uid()
