import pytest

from dicom_io.header.region_words import parts_named


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("CHEST PA", "CHEST"),
        ("Thoraxaufnahme im Liegen", "CHEST"),
        ("Röntgen Brustkorb", "CHEST"),
        ("Radiographie thoracique", "CHEST"),
        ("RX TÓRAX PA Y LATERAL", "CHEST"),
        ("Torace in due proiezioni", "CHEST"),
        ("X-borstkas", "CHEST"),
        ("Rippen rechts", "RIB"),
        ("Abdomenübersicht", "ABDOMEN"),
        ("ADDOME DIRETTO", "ABDOMEN"),
        ("Buikoverzicht", "ABDOMEN"),
        ("Schädel 2 Ebenen", "SKULL"),
        ("SCHAEDEL", "SKULL"),
        ("Crâne face + profil", "SKULL"),
        ("CRÁNEO AP", "SKULL"),
        ("Schedel AP", "SKULL"),
        ("L-SPINE LAT", "SPINE"),
        ("Lendenwirbelsäule", "SPINE"),
        ("Rachis lombaire", "SPINE"),
        ("Columna dorsal", "SPINE"),
        ("lage wervelkolom", "SPINE"),
        ("HEAD AP", "HEAD"),
        ("rib/hand", "RIB"),
    ],
)
def test_a_part_that_is_no_extremity_is_recognised_by_whole_words(text, part):
    assert parts_named(text)[0] == part


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Hand p.a. und schräg",
        "HANDGELENK 2 EBENEN",
        "Neck of femur",
        "tibial spine",
        "Radial head",
        "Femoral head AP",
        "Sinus tarsi",
        "Back of hand",
        "Humeruskopf",
        "Schenkelhals axial",
        "Col du fémur",
        "Main gauche face 2 côtés",
        "Knie in Bauchlage",
        "Beckenübersicht, Darmbein",
        "Shoulder abd.",
        "Long leg standing",
        "Foreign body",
        "Cheston Hospital, Ribera",
        "Sample hand",
    ],
)
def test_a_limb_or_anything_else_names_no_such_part(text):
    assert parts_named(text) == ()
