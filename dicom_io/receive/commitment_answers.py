"""What a PACS reports on an association of its own of what it has committed: believed, recorded, then answered."""

from __future__ import annotations

from typing import Any

import structlog

from dicom_io.errors import HeaderError
from dicom_io.network.incident import incident
from dicom_io.network.wire import address_of, printable
from dicom_io.receive.admission import Throttle
from dicom_io.receive.intake import CommitmentRefused, Intake, IntakeUnavailable
from dicom_io.send.commitment import PROCESSING_FAILURE, parse_event_report
from dicom_io.types import Peer, Refusal

log = structlog.get_logger()

# PS3.7 Annex C.
SUCCESS = 0x0000
INVALID_ARGUMENT_VALUE = 0x0115
UNRECOGNISED_OPERATION = 0x0211
RESOURCE_LIMITATION = 0x0213


class CommitmentAnswers:
    """Answers the N-EVENT-REPORT requests of all associations; safe to use from many threads."""

    def __init__(self, intake: Intake, throttle: Throttle | None = None) -> None:
        self._intake = intake
        self._throttle = throttle or Throttle()

    def received(self, event: Any) -> tuple[int, None]:
        """Answer an N-EVENT-REPORT request of storage commitment (handler of EVT_N_EVENT_REPORT)."""
        peer = Peer(printable(event.assoc.requestor.ae_title), address_of(event.assoc))
        try:
            report = parse_event_report(event.event_information, event.event_type)
            self._intake.commitment(report, peer)
        except IntakeUnavailable as error:
            log.warning("commitment_not_recorded", code=error.code)
            return RESOURCE_LIMITATION, None
        except CommitmentRefused as error:
            log.warning(error.code, ae_title=peer.ae_title, address=peer.address)
            return self._refuse(Refusal(error.code, str(error), peer, PROCESSING_FAILURE)), None
        except HeaderError as error:
            return self._refuse(_malformed(peer, str(error))), None
        except Exception as error:  # noqa: BLE001 - pydicom raises many types for malformed data sets
            log.warning("commitment_unreadable", **incident(error))
            return self._refuse(_malformed(peer, "the answer to a commitment request cannot be read")), None
        log.info("commitment_received", committed=len(report.committed), failed=len(report.failed))
        return SUCCESS, None

    def _refuse(self, rejection: Refusal) -> int:
        """Record a refusal, once a minute for each caller; return the status to answer."""
        status = PROCESSING_FAILURE if rejection.status is None else rejection.status
        if not self._throttle.admits(rejection.code, rejection.peer.ae_title, rejection.peer.address):
            return status
        try:
            self._intake.reject(rejection)
        except IntakeUnavailable:
            log.warning("rejection_not_recorded", code=rejection.code)
            return RESOURCE_LIMITATION
        return status


def _malformed(peer: Peer, reason: str) -> Refusal:
    return Refusal("commitment_malformed", reason, peer, INVALID_ARGUMENT_VALUE)


def refuse_action(_event: Any) -> tuple[int, None]:
    """Answer an N-ACTION request: we are no SCP of storage commitment, we keep nothing for others."""
    return UNRECOGNISED_OPERATION, None
