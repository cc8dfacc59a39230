"""The answers to our questions, kept from the thread of pynetdicom that would throw one away now and then."""

from __future__ import annotations

from typing import Any

from pynetdicom.dimse import DIMSEServiceProvider


class AnswerKeepingDimse(DIMSEServiceProvider):  # type: ignore[misc] # pynetdicom is untyped here
    """pynetdicom's DIMSE provider, but the answers to our questions are left to who waits for them.

    pynetdicom 3 means to pause the thread that serves a peer's requests while a question waits for its answers, but
    reads a flag that may be left from the pause before. Now and then that thread takes an answer, calls it unexpected
    and throws it away: a study is missing from a C-FIND, and nothing says so. Who waits for an answer blocks; who
    looks without blocking is that thread.

    References
    ----------
    https://github.com/pydicom/pynetdicom/issues/875
    """

    def get_msg(self, block: bool = False) -> Any:
        """Return the next message and its context, or two None; without blocking, never an answer."""
        return super().get_msg(block) if block or not self._answer_is_next() else (None, None)

    def _answer_is_next(self) -> bool:
        with self.msg_queue.mutex:
            waiting = self.msg_queue.queue[0][1] if self.msg_queue.queue else None
        # What an abort puts there, no message at all, is for who waits, too.
        return self.assoc.is_requestor and (waiting is None or waiting.MessageIDBeingRespondedTo is not None)


def keep_answers(event: Any) -> None:
    """Let no answer be thrown away on a connection that was just opened (handler of EVT_CONN_OPEN)."""
    event.assoc.dimse = AnswerKeepingDimse(event.assoc)
