"""One connection to a partner: one request at a time, its answer woken for piece by piece."""

import asyncio
import select

from services.bus.http1.answer import Answer, BrokenAnswer

_MOST_HELD = 256 * 1024
"""Bytes of a body held before the peer is made to wait for its reader."""


class TooLate(Exception):
    """The deadline came first; the message says in which phase."""


class Connection(asyncio.Protocol):
    """`ask` once; then `answer` grows until `answer.complete`; `fault` says why it never will.

    A fault is TooLate, BrokenAnswer, or the OSError with which the transport broke. `closed` is at our
    word or the peer's, `lost` is done when the loop has let go of it.
    """

    __slots__ = (
        "_arrived",
        "_deadline",
        "_heard",
        "_held",
        "_loop",
        "_paused",
        "_timer",
        "_transport",
        "_waiter",
        "answer",
        "closed",
        "expires",
        "fault",
        "lost",
        "origin",
        "reused",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, origin: object) -> None:
        self._loop = loop
        self._transport: asyncio.Transport
        self._arrived = select.poll()
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._deadline: float | None = None
        self._held = 0
        self._heard = False
        self._paused = False
        self.origin = origin
        self.answer: Answer | None = None
        self.fault: Exception | None = None
        self.closed = False
        self.lost: asyncio.Future[None] = loop.create_future()
        self.reused = False
        self.expires = 0.0

    # -- the request -----------------------------------------------------------------------------------

    def usable(self) -> bool:
        """Whether a request may be risked: no goodbye lies in the kernel that the loop has yet to come to."""
        return not (self.closed or self._transport.is_closing() or self._arrived.poll(0))

    def ask(self, request: bytes, answer: Answer) -> None:
        """Writes the whole request; from here on bytes of it may have left."""
        self.answer = answer
        self._heard = False
        self._transport.write(request)

    @property
    def died_unheard(self) -> bool:
        """Whether the peer was gone without a byte of an answer."""
        return self.fault is not None and not self._heard and not isinstance(self.fault, TooLate)

    @property
    def unwritten(self) -> bool:
        """Whether some of the request still waits for the peer to take it."""
        return self._transport.get_write_buffer_size() > 0

    def done(self) -> bool:
        """Ends the exchange. Whether the connection can take another request; else it is closed."""
        answer, self.answer = self.answer, None
        self.stop_clock()
        assert answer is not None
        settled = answer.complete and not self.unwritten
        if not settled or not answer.reusable or self.closed:
            self.close(politely=settled)
            return False
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        self._held = 0
        self.reused = True
        return True

    # -- waiting ---------------------------------------------------------------------------------------

    def start_clock(self, deadline: float) -> None:
        """From the loop's instant `deadline` on, every wait ends in TooLate."""
        self._deadline = deadline
        if self._timer is None or self._timer.when() > deadline:
            self._set_timer(deadline)

    def stop_clock(self) -> None:
        self._deadline = None  # the timer stays: most requests then need none of their own

    def _set_timer(self, when: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if when is None else self._loop.call_at(when, self._strike)

    def _strike(self) -> None:
        deadline, self._timer = self._deadline, None
        if deadline is None:
            return
        if self._loop.time() < deadline:
            self._set_timer(deadline)
            return
        if self.unwritten:
            late = "the request could not be written within the deadline"
        elif self.answer is None or self.answer.status == 0:
            late = "no answer within the deadline"
        else:
            late = "no whole answer within the deadline"
        self._fail(TooLate(late))

    def progress(self) -> asyncio.Future[None]:
        """Done when the answer has grown, or there is a fault; one wait at a time."""
        self._waiter = self._loop.create_future()
        if self.fault is not None:
            self._wake()
        return self._waiter

    def take(self) -> list[bytes]:
        """What has come of the body since the last time."""
        assert self.answer is not None
        pieces, self.answer.pieces = self.answer.pieces, []
        self._held = 0
        if self._paused:
            self._paused = False
            if not self.closed:
                self._transport.resume_reading()
        return pieces

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _fail(self, fault: Exception) -> None:
        """Gives up, for the first reason; what has come of the answer can still be taken."""
        if self.fault is None:
            self.fault = fault
        self._wake()
        self.close(politely=False)

    def close(self, *, politely: bool = True) -> None:
        """Politely: says goodbye in TLS first. Else at once, with whatever was not yet written."""
        self.closed = True
        if politely:
            self._transport.close()
        else:
            self._transport.abort()

    def abandon(self) -> None:
        """Ends it under whoever waits."""
        self._fail(ConnectionAbortedError("closed by us"))

    # -- called by the loop ----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # of a stream, as create_connection makes it
        self._arrived.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def data_received(self, data: bytes) -> None:
        answer = self.answer
        if answer is None:
            self.close(politely=False)  # bytes that nobody asked for
            return
        self._heard = True
        try:
            answer.feed(data)
        except BrokenAnswer as fault:
            self._fail(fault)
            return
        if answer.status:
            self._wake()
        self._held += len(data)
        if self._held > _MOST_HELD and not answer.complete and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def eof_received(self) -> None:
        self._ended(None)

    def connection_lost(self, error: Exception | None) -> None:
        self._ended(error)
        self._set_timer(None)
        if not self.lost.done():
            self.lost.set_result(None)

    def _ended(self, error: Exception | None) -> None:
        """A peer that stops sending is one that has gone: what it was asked after that it never answers."""
        already, self.closed = self.closed, True
        if already or self.answer is None:
            return
        try:
            if error is not None and not self.answer.complete:
                raise error
            self.answer.end()
        except Exception as fault:  # whatever the transport broke with
            self._fail(fault)
            return
        self._wake()
