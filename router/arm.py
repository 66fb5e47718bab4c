"""One model asked on behalf of a request: the call, the reading of its answer, and its charge."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from router.errors import UpstreamFailed
from router.evidence.compare.base import Answer
from router.ledger.bill import Bill, Charge, Origin
from router.ledger.pricing import Usage
from router.request import ClientRequest
from router.sse import Event, EventTooLarge, SSEParser
from router.upstream.model import Attempts, Leash, ModelClient, Reply
from router.upstream.transport import Aborted
from router.wire.body import Outgoing, outgoing
from router.wire.logprobs import mean_score
from router.wire.replies import Completed, read_reply
from router.wire.streams import StreamReader

Batch = list[tuple[Event, bytes]]


class ArmCall:
    """An answer of one model: complete (`completed`), streaming (`batches`), or an error status of the upstream."""

    __slots__ = (
        "_charge",
        "_estimate",
        "_parser",
        "batches",
        "bill",
        "completed",
        "model",
        "outgoing",
        "reader",
        "reply",
    )

    def __init__(
        self, model: ModelClient, outgoing: Outgoing, reply: Reply, charge: Charge, estimate: int, assemble: bool
    ) -> None:
        self.model = model
        self.outgoing = outgoing
        self.reply = reply
        self.completed: Completed | None = None
        self._charge = charge
        self._estimate = estimate
        self._parser = SSEParser()
        self.reader = StreamReader(outgoing, assemble)
        self.batches = self._batches()

    @property
    def succeeded(self) -> bool:
        return self.reply.status == 200

    async def _batches(self) -> AsyncGenerator[Batch, None]:
        """The events of each piece that arrives, with what the client may see of them. Raises UpstreamFailed."""
        reader, parser = self.reader, self._parser
        try:
            async for data in self.reply.chunks():
                yield [(event, reader.feed(event)) for event in parser.feed(data)]
                if reader.done:
                    return
        except EventTooLarge as error:
            raise UpstreamFailed(f"the upstream's stream is malformed: {error}") from None
        if not reader.finished:
            raise UpstreamFailed("the upstream closed the stream before the answer was complete")

    def score(self, tokens: int) -> float | None:
        """The gate's score: the mean log-probability of the first tokens; None where the upstream reported none."""
        logprobs = self.completed.logprobs() if self.completed else self.reader.logprobs()
        return mean_score(logprobs, tokens)

    def answer(self) -> Answer:
        return self.completed.answer() if self.completed else self.reader.answer()

    @property
    def usage(self) -> Usage | None:
        return self.completed.usage if self.completed else self.reader.usage

    def settle(self, origin: Origin) -> bool:
        """Settle the charge with what is known, once; False when the usage of an answer had to be estimated."""
        if self._charge.settled:
            return True
        usage = self.usage
        if usage is None and not self.succeeded:
            self._charge.settle(origin, Usage(0, 0))
            return True
        self._charge.settle(origin, usage or self._estimated_usage(), estimated=usage is None)
        return usage is not None

    def _estimated_usage(self) -> Usage:
        produced = self.reader.produced
        if self.completed:
            produced = _tokens(len(self.completed.body), self.model)
        return Usage(self._estimate, produced)

    def close(self) -> None:
        self.reply.close()


async def open_arm(
    request: ClientRequest,
    model: ModelClient,
    bill: Bill,
    headers: bytes,
    leash: Leash,
    attempts: Attempts,
    *,
    scored: bool = False,
    assemble: bool = False,
    background: bool = False,
) -> ArmCall:
    """Ask `model`. Raises RouterError when it cannot answer (only timed-out tries are charged then), or Aborted."""
    out = outgoing(request, model, scored=scored, background=background)
    estimate = _tokens(request.prompt_bytes, model)
    timeouts = attempts.timeouts
    try:
        reply = await model.open(out.path, headers, out.body, stream=out.stream, leash=leash, attempts=attempts)
    except Aborted:
        if leash.current:  # it was sent, so that the model may have begun to work
            bill.open(model.name, model.prices).settle("cancelled", Usage(estimate, 0), estimated=True)
        raise
    finally:
        for _ in range(attempts.timeouts - timeouts):
            bill.open(model.name, model.prices).settle("retry", Usage(estimate, 0), estimated=True)
    call = ArmCall(model, out, reply, bill.open(model.name, model.prices), estimate, assemble)
    if call.succeeded and not reply.streams:
        _read_complete(call)
    return call


def _read_complete(call: ArmCall) -> None:
    """A 200 that is not what was asked for counts as a failure of the upstream."""
    try:
        if call.outgoing.stream:
            raise UpstreamFailed(f"model '{call.model.name}' answered a streaming request without a stream")
        call.completed = read_reply(call.outgoing.dialect, call.reply.body)
    except UpstreamFailed:
        call.settle("serve")
        call.close()
        raise


def _tokens(size: int, model: ModelClient) -> int:
    return int(size / model.config.bytes_per_token) + 1
