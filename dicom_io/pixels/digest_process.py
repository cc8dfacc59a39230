"""The digest of a file's pixels, decoded in a process of its own.

Whoever analyses an image decodes it anyway and knows the digest for nothing. Where two files have to be compared as one
is received, they are decoded apart: decoders are written in C, the bytes come from the network, and the listener serves
others meanwhile.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

_PROCESS_MEMORY_BYTES = 4 << 30
_PROCESS_SECONDS = 120
_AT_ONCE = threading.BoundedSemaphore(2)
_CODE = (
    "import sys; sys.path.insert(0, sys.argv[1]); from dicom_io.pixels.digest_process import main; main(sys.argv[2])"
)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Why there is no digest. `permanent` where the file's pixels cannot be decoded, and not this try has failed."""

    permanent: bool


def pixel_digest_apart(path: Path) -> str | Unreadable:
    """Decode an image in a process of its own, which may crash, hang or run out of memory; return its digest."""
    root = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    with _AT_ONCE:
        try:
            answer = subprocess.run(
                [sys.executable, "-I", "-c", _CODE, root, str(path)],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                env=environment,
                timeout=_PROCESS_SECONDS,
                check=True,
            )
        except subprocess.CalledProcessError as error:
            # A decoder that crashes will crash again; who was killed ran out of the machine's memory.
            return Unreadable(permanent=error.returncode != -signal.SIGKILL)
        except (subprocess.SubprocessError, OSError):
            return Unreadable(permanent=False)
    said = json.loads(answer.stdout or b"{}")
    return str(said["digest"]) if said.get("digest") else Unreadable(permanent=bool(said.get("permanent")))


def main(path: str) -> None:
    """Print the digest of an image, or that it has none."""
    resource.setrlimit(resource.RLIMIT_AS, (_PROCESS_MEMORY_BYTES, _PROCESS_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Imported here: the listener asks this module and needs no decoder of its own.
    from dicom_io.errors import HeaderError, PixelError  # noqa: PLC0415
    from dicom_io.pixels.frames import read_values_digest  # noqa: PLC0415

    try:
        said: dict[str, object] = {"digest": read_values_digest(Path(path))}
    except (HeaderError, PixelError):
        said = {"permanent": True}
    sys.stdout.write(json.dumps(said))
