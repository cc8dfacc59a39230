"""What `bonewatch doctor` looks at: each check says in a line what it found and, where it is bad, what to do."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from dicom_io.class_names import class_name
from dicom_io.errors import PeerBusy, PeerError, PeerRefused, StoreError
from dicom_io.network.association import CallerRefused
from dicom_io.send.sender import CAPTURE_CLASS, PRESENTATION_CLASS, REPORT_CLASSES, accepted_object_classes, echo
from dicom_io.types import Destination
from models.manifest import SHIPPED, read_manifest, read_weights
from models.types import ModelError
from worker.db.database import open_database
from worker.errors import DatabaseError, DatabaseNotUpgraded, QueueUnavailable, StartRefused
from worker.operate.archive_checks import check_archive
from worker.operate.verdict import Check, Verdict
from worker.process.home_lock import LOCK_NAME, held_since
from worker.process.up import check_port
from worker.queue.app import create_app
from worker.settings.choices import Choice
from worker.settings.current_bundle import shadow_bundle
from worker.settings.file import NAME, holds_secret
from worker.settings.settings import SECRETS, Settings
from worker.storage.stores import store_of
from worker.study.queues import CeleryQueue

__all__ = ["Check", "Verdict", "checks"]

OTHERS = 0o077
"""Permissions of anybody but a file's owner."""


def checks(settings: Settings) -> Iterator[tuple[str, Callable[[], Check]]]:
    """Yield the name and the function of each check, in an order in which one explains the next."""
    yield "settings", lambda: check_settings(settings)
    yield "disk", lambda: check_disk(settings)
    if settings.store_url is not None:
        yield "store", lambda: check_object_storage(settings)
    yield "database", lambda: check_database(settings)
    yield "broker", lambda: check_broker(settings)
    yield "model", lambda: check_model(settings)
    if (shadow := shadow_bundle(settings.home)) is not None:
        yield "model in shadow", lambda: check_shadow(settings, shadow)
    yield "listener", lambda: check_listener(settings)
    for destination in settings.destinations_tuple():
        yield f"PACS {destination.name}", lambda each=destination: check_destination(each, settings)  # type: ignore[misc]
    if (archive := settings.archive) is not None:
        yield f"archive {archive.name}", lambda: check_archive(settings, archive)
    for choice in settings.open_choices():
        yield "choice", lambda each=choice: _open_choice(each, settings)  # type: ignore[misc]


def check_settings(settings: Settings) -> Check:
    """Say which settings file holds, and look whether others may read its secrets and whether `up` has read it."""
    path = settings.config
    if path is None:
        words = f"no settings file: {settings.home / NAME} would be read; variables and defaults hold"
        return Check("settings", Verdict.GOOD, words)
    status = path.stat()
    since = held_since(settings.run_folder / LOCK_NAME)
    if since is not None and status.st_mtime > since:
        advice = "stop bonewatch up and start it again"
        words = f"{path} was changed after bonewatch up had read it: what runs has the settings from before"
        return Check("settings", Verdict.NOTE, words, advice)
    if status.st_mode & OTHERS and holds_secret(path, SECRETS):
        return Check("settings", Verdict.NOTE, f"{path} holds a secret and others may read it", f"chmod 600 {path}")
    return Check("settings", Verdict.GOOD, str(path))


def _open_choice(choice: Choice, settings: Settings) -> Check:
    file = settings.config or settings.home / NAME
    return Check("choice", Verdict.NOTE, choice.words, f"say in {file}, for instance: {choice.example}")


def check_disk(settings: Settings) -> Check:
    """Look whether the store can be written to and has room."""
    folder: Path = settings.store
    while not folder.exists():
        folder = folder.parent
    if not os.access(folder, os.W_OK):
        return Check("disk", Verdict.BAD, f"{folder} cannot be written to", "let it belong to who runs bonewatch")
    free, least = shutil.disk_usage(folder).free, settings.minimum_free_bytes
    found = f"{free / 2**30:.1f} GiB free at {settings.store}"
    if free < least:
        advice = f"make room: below {least / 2**30:.1f} GiB nothing is received (BONEWATCH_MINIMUM_FREE_BYTES)"
        return Check("disk", Verdict.BAD, found, advice)
    return Check("disk", Verdict.GOOD, found)


def check_object_storage(settings: Settings) -> Check:
    """Look whether the object storage answers, and lets us look into our part of the bucket."""
    try:
        empty = store_of(settings).is_empty()
    except StoreError as error:
        advice = "see that BONEWATCH_STORE_URL, _ENDPOINT, _KEY and _SECRET are right and the bucket is there"
        return Check("store", Verdict.BAD, str(error), advice)
    found = "is empty: the first study makes it not so" if empty else "answers and holds files"
    return Check("store", Verdict.GOOD, f"{settings.store_url} {found}")


def check_database(settings: Settings) -> Check:
    """Look whether the database answers and has this version's tables."""
    url = settings.sqlalchemy_url()
    try:
        open_database(url, timeout_seconds=5).close()
    except DatabaseNotUpgraded as error:
        return Check("database", Verdict.BAD, str(error), "bonewatch db upgrade, or bonewatch up, which does it")
    except DatabaseError as error:
        return Check("database", Verdict.BAD, str(error), "see that it runs and that BONEWATCH_DATABASE_URL is right")
    return Check("database", Verdict.GOOD, f"{url} answers and is up to date")


def check_broker(settings: Settings) -> Check:
    """Look whether the broker answers."""
    try:
        waiting = CeleryQueue(create_app(settings)).lengths()
    except QueueUnavailable as error:
        advice = "start bonewatch up" if settings.uses_embedded_broker else "see that BONEWATCH_REDIS_URL is right"
        return Check("broker", Verdict.BAD, str(error), advice)
    return Check("broker", Verdict.GOOD, f"answers; {sum(waiting.values())} messages wait")


def check_model(settings: Settings) -> Check:
    """Look whether the bundle can be used, checksums and all."""
    try:
        version = _usable(settings.installed_bundle() or SHIPPED)
    except ModelError as error:
        return Check("model", Verdict.BAD, str(error), "install the bundle whole, or name another: BONEWATCH_BUNDLE")
    return Check("model", Verdict.GOOD, f"{version}, checksums right")


def check_shadow(settings: Settings, folder: Path) -> Check:
    """Load the bundle that runs in shadow; what is pushed is answered without it all the same."""
    name = "model in shadow"
    try:
        version = _usable(folder)
    except ModelError as error:
        advice = "bonewatch models shadow with the whole bundle, or --off; today's answers come without it"
        return Check(name, Verdict.BAD, str(error), advice)
    if version == _answering(settings):
        advice = "name another one with bonewatch models shadow, or --off"
        return Check(name, Verdict.NOTE, f"{version} is also the model that answers: nothing is compared", advice)
    return Check(name, Verdict.GOOD, f"{version}, checksums right; it sees what is pushed and its answers go nowhere")


def _usable(folder: Path) -> str:
    """Return a bundle's version, or raise what keeps it from being used.

    The one that ships fits this program, as the tests show: nothing can be wrong but its files. Any other is loaded.
    """
    if folder == SHIPPED:
        manifest = read_manifest(folder)
        for name, entry in manifest.files.items():
            read_weights(folder / name, entry)
        return manifest.version
    from models.bundle import load_bundle  # noqa: PLC0415 - torch takes seconds to import

    return load_bundle(folder).version


def _answering(settings: Settings) -> str | None:
    try:
        return read_manifest(settings.installed_bundle() or SHIPPED).version
    except ModelError:
        return None  # the check of the model says why


def check_listener(settings: Settings) -> Check:
    """Look whether our listener answers, or else whether its port is free."""
    host = "127.0.0.1" if settings.dicom_host in ("0.0.0.0", "::") else settings.dicom_host  # noqa: S104 - compared
    ourselves = Destination("listener", settings.ae_title, host, settings.dicom_port, settings.ae_title)
    where = f"{settings.ae_title} on port {settings.dicom_port}"
    try:
        echo(ourselves)
    except CallerRefused as error:
        if not settings.listener().allowed_callers:
            return _foreign_listener(settings, error)
        words = f"{where} listens and refuses whoever is not among the allowed callers, as set (this check is not)"
        return Check("listener", Verdict.GOOD, words)
    except PeerRefused as error:
        return _foreign_listener(settings, error)
    except PeerBusy as error:
        advice = "see in the log of the listener who calls; BONEWATCH_MAXIMUM_ASSOCIATIONS is the limit"
        return Check("listener", Verdict.NOTE, f"{where} listens but takes nobody just now: {error}", advice)
    except PeerError:
        return _check_silent_port(settings, where)
    return Check("listener", Verdict.GOOD, f"{where} answers C-ECHO")


def _foreign_listener(settings: Settings, error: PeerRefused) -> Check:
    where = f"what answers on port {settings.dicom_port}"
    found = f"{where} is another DICOM program, or a bonewatch that was started with other settings: {error}"
    advice = "stop the other program or choose another port (BONEWATCH_DICOM_PORT); or start bonewatch again"
    return Check("listener", Verdict.BAD, found, advice)


def _check_silent_port(settings: Settings, where: str) -> Check:
    try:
        check_port(settings.dicom_host, settings.dicom_port)
    except StartRefused as error:
        return Check("listener", Verdict.BAD, str(error), "stop the other program, or choose another port")
    return Check("listener", Verdict.BAD, f"{where} does not listen; the port is free", "start bonewatch up")


def check_destination(destination: Destination, settings: Settings) -> Check:
    """Call a PACS: C-ECHO, then which of our objects it accepts: reports, marked images, presentation states."""
    name = f"PACS {destination.name}"
    where = f"{destination.ae_title} at {destination.host}:{destination.port}"
    try:
        seconds = echo(destination)
        accepted = accepted_object_classes(destination)
    except PeerError as error:
        advice = (
            f"see that it runs, that host, port and AE title are right (BONEWATCH_DESTINATIONS), and that it knows "
            f"us as {destination.calling_ae_title}"
        )
        return Check(name, Verdict.BAD, str(error), advice)
    if not set(REPORT_CLASSES) & set(accepted):
        return Check(
            name, Verdict.BAD, f"{where} answers but accepts no report", "let it accept Comprehensive SR from us"
        )
    words = ", ".join(class_name(uid) for uid in accepted)
    found = f"{where} answers in {seconds * 1000:.0f} ms and accepts {words}"
    refused = _refused_companions(settings, accepted)
    if refused:
        return Check(
            name, Verdict.BAD, f"{found}, but no {' and no '.join(refused)}", "let it accept them, or send none"
        )
    return Check(name, Verdict.GOOD, found)


def _refused_companions(settings: Settings, accepted: tuple[str, ...]) -> list[str]:
    """Name the companions that the site wants and the PACS does not take, with the settings that want them."""
    wanted = {
        CAPTURE_CLASS: settings.marked_image != "never" and "marked image (BONEWATCH_MARKED_IMAGE)",
        PRESENTATION_CLASS: settings.presentation_state and "presentation state (BONEWATCH_PRESENTATION_STATE)",
    }
    return [words for uid, words in wanted.items() if words and uid not in accepted]
