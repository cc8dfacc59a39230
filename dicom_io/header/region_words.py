"""Words of free text that name a part of the body which is no extremity, in six languages.

Free text only ever keeps an image out. People write descriptions for people, so nothing in them is a reason to analyse
an image; but one whose description says thorax, and whose header names no part, is a chest.
"""

from __future__ import annotations

import re
import unicodedata

# Body part, as Body Part Examined would name it, to words of English, German, French, Spanish, Italian and Dutch, in
# capitals without accents. A word with an asterisk begins longer ones: German and Dutch write THORAXAUFNAHME. Left out
# is what names something else elsewhere: Dutch LONG, French FACE, ABD (abduction), BAUCHLAGE (prone), DARMBEIN (ilium).
_NAMES = {
    "CHEST": (
        "CHEST CHESTXRAY CXR THORAX* THORACIC* THORACIQUE* TORAX TORACIC* TORACE BRUSTKORB* BORSTKAS* LUNG LUNGS "
        "LUNGEN* POUMON POUMONS PULMON PULMONES PULMONARY PULMONAR* PULMONAIRE* POLMONE POLMONI POLMONARE LONGEN "
        "LONGFOTO* MEDIASTIN* HEART CARDIAC HERZ COEUR BRUST"
    ),
    "RIB": "RIB RIBS RIBCAGE RIPPE RIPPEN* COSTAL COSTALE COSTALES COSTILLA* PARRILLA COSTE RIBBEN*",
    "STERNUM": "STERNUM STERNAL BRUSTBEIN* ESTERNON STERNO BORSTBEEN*",
    "ABDOMEN": (
        "ABDOMEN* ABDOMINAL* ADDOME ADDOMINAL* BAUCH BAUCHRAUM* BAUCHUBERSICHT* BUIK BUIKOVERZICHT* KUB UROGRAM "
        "UROGRAPHY UROGRAPHIE IVU IVP KIDNEY KIDNEYS NIERE NIEREN* STOMACH MAGEN COLON BOWEL DARM DICKDARM* "
        "DUNNDARM*"
    ),
    "BREAST": "BREAST BREASTS MAMMA MAMMO*",
    "SKULL": (
        "SKULL CRANIUM CRANE CRANEO CRANIO SCHADEL* SCHAEDEL* SCHEDEL* SINUSES NNH NASENNEBENHOHL* NEBENHOHL* "
        "PARANASAL* MANDIB* MAXILLA MAXILLARY MAXILLAIRE UNTERKIEFER* OBERKIEFER* KIEFER* KAAK* FACIAL FACIALES "
        "GESICHT* AANGEZICHT* ORBITA* ORBIT ORBITS NASAL NASE NASENBEIN* NEUS* NASO ZYGOMA* JOCHBEIN* JUKBEEN* "
        "MASTOID* TMJ OPG ORTHOPANTO* PANTOMOGRA* DENTAL TEETH ZAHN* CEPHALO*"
    ),
    "SPINE": (
        "CSPINE TSPINE LSPINE HWS BWS LWS CWK TWK BWK LWK CWZ LWZ WIRBEL* WERVEL* HALSWIRBEL* BRUSTWIRBEL* "
        "LENDENWIRBEL* RACHIS VERTEBRA* VERTEBRE* COLUMNA COLONNA COLONNE CERVICAL* LUMBAR* LUMBAL* LUMBO* "
        "LOMBAIRE* LOMBAL* LOMBARE DORSOLUMBAR DORSOLOMBAIRE SACRUM SACRO SACRAL KREUZBEIN* STEISSBEIN* COCCYX "
        "COXIS SCOLIOS* SKOLIOSE* ESCOLIOSIS"
    ),
    "NECK": "LARYNX PHARYNX",
    "WHOLEBODY": "WHOLEBODY BABYGRAM* GANZKORPER*",
}
# Words that also belong to bones and regions of limbs (neck of femur, tibial spine, sinus tarsi, back of the hand):
# they count only where the same text names no limb.
_AMBIGUOUS = {
    "CHEST": "LUNGE",
    "HEAD": "HEAD KOPF TETE CABEZA TESTA HOOFD",
    "SKULL": "SINUS NOSE NEZ NARIZ",
    "NECK": "NECK HALS COU CUELLO COLLO NEK",
    "SPINE": "SPINE SPINAL BACK RUG ESPALDA SCHIENA RUCKEN",
    "RIB": "COTES",
    "WHOLEBODY": "TRUNK TRONC TRONCO",
}
_LIMBS = (
    "ARM* FINGER* THUMB* WRIST* CARP* METACARP* HAND* FOREARM* ELBOW* HUMER* SHOULDER* CLAVIC* SCAPUL* RADIUS* "
    "RADIAL* ULNA* LEG LEGS ANKLE* FOOT FEET TOE TOES TARS* METATARS* CALCAN* TALUS TALAR HEEL* KNEE* PATELL* "
    "TIBI* FIBUL* CALF FEMUR* FEMOR* THIGH* HIP HIPS PELVI* ILIA* EXTREMIT* LIMB LIMBS DAUMEN* UNTERARM* OBERARM* "
    "ELLENBOGEN* ELLBOGEN* SCHULTER* SCHLUSSELBEIN* BEIN* UNTERSCHENKEL* OBERSCHENKEL* SPRUNGGELENK* FUSS* "
    "FUESSE* VORFUSS* MITTELFUSS* ZEH* FERSE* KNIE* SCHENKEL* HUFT* HUEFT* BECKEN* DOIGT* POUCE* POIGNET* MAIN "
    "MAINS COUDE* EPAULE* BRAS JAMBE* CHEVILLE* PIED PIEDS ORTEIL* GENOU* ROTULE* CUISSE* HANCHE* BASSIN* COL "
    "DEDO* PULGAR MUNECA* MANO MANOS CODO CODOS HOMBRO* BRAZO* PIERNA* TOBILLO* PIE PIES RODILLA* ROTULA* MUSLO* "
    "CADERA* DITO DITA POLLICE POLSO POLSI MANI GOMITO* SPALLA BRACCIO GAMBA GAMBE CAVIGLIA PIEDE PIEDI GINOCCHI* "
    "COSCIA ANCA BACINO VINGER* DUIM* POLS* ELLEBOOG* SCHOUDER* BEEN ENKEL* VOET* TEEN TENEN HEUP* BEKKEN* "
    "ONDERARM* BOVENARM* ONDERBEEN* BOVENBEEN*"
)


def _pattern(words: str) -> re.Pattern[str]:
    return re.compile("|".join(word.replace("*", "[A-Z0-9]*") for word in words.split()))


_NAME_PATTERNS = [(part, _pattern(words)) for part, words in _NAMES.items()]
_AMBIGUOUS_PATTERNS = [(part, _pattern(words)) for part, words in _AMBIGUOUS.items()]
_LIMB_PATTERN = _pattern(_LIMBS)


def parts_named(text: str) -> tuple[str, ...]:
    """Return the parts of the body, none of them an extremity, that a free text names by whole words."""
    words = _words(text)
    found = [part for part, pattern in _NAME_PATTERNS if any(map(pattern.fullmatch, words))]
    if not any(map(_LIMB_PATTERN.fullmatch, words)):
        found += [part for part, pattern in _AMBIGUOUS_PATTERNS if any(map(pattern.fullmatch, words))]
    return tuple(dict.fromkeys(found))


def _words(text: str) -> list[str]:
    plain = unicodedata.normalize("NFKD", text.replace("ß", "ss")).encode("ascii", "ignore").decode().upper()
    return [word for word in re.split(r"[^A-Z0-9]+", plain) if word]
