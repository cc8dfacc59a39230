"""Read many damaged copies of real files; a traceback, a crash or a hang here is a defect. Run by test_real_files."""

import logging
import random
import sys
import time
from importlib import resources
from pathlib import Path

import pydicom

from dicom_io.errors import DicomError
from dicom_io.pixels.frames import read_frames

COPIES = 150
LARGEST_BYTES = 150_000
MOST_SECONDS = 15


def damaged(content: bytes, chance: random.Random) -> bytes:
    """Return a copy with a few bytes changed, half of the time near the header, and sometimes cut short."""
    copy = bytearray(content)
    reach = len(copy) if chance.random() < 0.5 else min(len(copy), 2500)
    for _ in range(chance.choice([1, 1, 2, 5, 20])):
        at = chance.randrange(132, reach)
        copy[at] = chance.choice([0, 255, chance.randrange(256), copy[at] ^ (1 << chance.randrange(8))])
    return bytes(copy[: chance.randrange(len(copy))] if chance.random() < 0.1 else copy)


def main() -> None:
    """Damage, read, and let everything but the package's own errors through."""
    chance = random.Random(int(sys.argv[1]))
    path = Path(sys.argv[2]) / "damaged.dcm"
    logging.disable(logging.CRITICAL)
    folder = Path(str(resources.files(pydicom))) / "data" / "test_files"
    files = [file for file in sorted(folder.glob("*.dcm")) if 1000 < file.stat().st_size < LARGEST_BYTES]
    for _ in range(COPIES):
        path.write_bytes(damaged(chance.choice(files).read_bytes(), chance))
        started = time.monotonic()
        try:
            for _frame in read_frames(path):
                pass
        except DicomError:
            continue
        finally:
            if time.monotonic() - started > MOST_SECONDS:
                raise SystemExit("a damaged file took too long")


if __name__ == "__main__":
    main()
