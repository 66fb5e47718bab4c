"""One model asked on behalf of a request: the call, the reading of its answer, and its charge."""

from __future__ import annotations

from collections.abc import Callable

from policies.gate.answer import Signals, StudentAnswer
from policies.gate.tokens import signals_of
from router.errors import RouterError, UpstreamFailed, UpstreamTimeout
from router.evidence.compare.base import Answer
from router.ledger.bill import Bill, Charge, Origin
from router.ledger.bound import worst_nano
from router.ledger.lease import Hold
from router.ledger.pricing import PriceList, Usage
from router.ledger.purse import Purse
from router.request import ClientRequest
from router.sse import Event, EventTooLarge, SSEParser
from router.upstream.model import Attempts, Leash, ModelClient, Reply
from router.upstream.transport import Overdue, TransportError
from router.wire.body import Outgoing, outgoing
from router.wire.replies import Completed, Said, read_reply
from router.wire.streams import StreamReader

Batch = list[tuple[Event, bytes]]


class ArmCall:
    """An answer of one model: complete (`completed`), streaming (`read`), or an error status of the upstream.

    `held`: what was read of a stream and not shown to the client yet. `examined`: its first choice with
    what a gate asked about it.
    """

    __slots__ = (
        "_estimate",
        "_parser",
        "charge",
        "completed",
        "examined",
        "held",
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
        self.charge = charge
        self._estimate = estimate
        self._parser = SSEParser()
        self.reader = StreamReader(outgoing, assemble)
        self.held: list[Batch] = []
        self.examined: StudentAnswer | None = None

    @property
    def succeeded(self) -> bool:
        return self.reply.status == 200

    @property
    def whole(self) -> bool:
        """Whether the answer was read to its end."""
        return self.completed is not None or self.reader.done

    async def read(self) -> Batch | None:
        """The events of the next piece that arrives, with what the client may see of them; None at the end.

        Raises UpstreamFailed for what is no answer, and TransportError.
        """
        reader, parser = self.reader, self._parser
        if reader.done:
            return None
        data = await self.reply.chunk()
        try:
            batch = [(event, reader.feed(event)) for event in (parser.feed(data) if data else parser.close())]
            if not (data or batch or reader.finished):
                raise UpstreamFailed("the upstream closed the stream before the answer was complete")
        except (EventTooLarge, UpstreamFailed) as error:
            self.reply.failed(str(error))
            raise UpstreamFailed(f"model '{self.model.name}' failed: {error}") from None
        if reader.done or not (data or batch):
            reader.done = True  # also without [DONE]
            self.reply.succeeded()
        return batch if data or batch else None

    def failure(self, error: TransportError | RouterError) -> RouterError:
        """What the client is told when the answer broke off."""
        if isinstance(error, RouterError):
            return error
        kind = UpstreamTimeout if isinstance(error, Overdue) else UpstreamFailed
        return kind(f"model '{self.model.name}' failed in the middle of its answer: {error}")

    def choices(self, tokens: int = 0) -> list[Said]:
        """Every answer, as far as it is there, with its first `tokens` tokens."""
        return self.completed.choices(tokens) if self.completed else self.reader.choices(tokens)

    def signals(self, tokens: int) -> Signals | None:
        """Of the first `tokens` tokens of the least sure answer; None where one came without log-probabilities."""
        found = [signals_of(said.tokens) for said in self.choices(tokens)]
        known = [each for each in found if each is not None]
        return min(known, key=lambda each: each.mean) if known and len(known) == len(found) else None

    def answer(self) -> Answer:
        return self.completed.answer() if self.completed else self.reader.answer()

    @property
    def usage(self) -> Usage | None:
        return self.completed.usage if self.completed else self.reader.usage

    def settle(self, origin: Origin) -> None:
        """Settle the charge with what is known; the first call counts."""
        if self.charge.settled:
            return
        usage = self.usage
        if usage is None and not self.succeeded:
            self.charge.settle(origin, Usage(0, 0))
            return
        self.charge.settle(origin, usage or self._estimated_usage(), estimated=usage is None)

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
    purse: Purse,
    *,
    scored: bool = False,
    entropies: bool = False,
    assemble: bool = False,
    paid: Callable[[], None] | None = None,
) -> ArmCall:
    """Reserve what the call may cost, then ask `model`. `paid` is called between the two.

    Raises BudgetSpent, RouterError when the model cannot answer, or Aborted; tries it may have worked on are charged.
    """
    prices = model.prices  # a call keeps the prices that it began with, also over a date on which they change
    accounts = purse.accounts(model.name)
    out = outgoing(
        request, model, scored=scored, entropies=entropies, background=leash.background, bounded=bool(accounts)
    )
    hold = await purse.reserve(accounts, worst_nano(request, model, out, prices)) if accounts else None
    if paid:
        paid()
    estimate = _tokens(request.prompt_bytes, model)
    tried = attempts.timeouts, attempts.cut_off
    try:
        reply = await model.open(out.path, headers, out.body, stream=out.stream, leash=leash, attempts=attempts)
    except BaseException:
        lost = _charge_tries(bill, model, prices, hold, Usage(estimate, 0), attempts, tried)
        if hold and lost and not (out.stream or model.config.stops_on_hangup):
            hold.presume()  # the model may have written all of an answer that nobody waited for
        elif hold:
            hold.release()
        raise
    _charge_tries(bill, model, prices, hold, Usage(estimate, 0), attempts, tried)
    call = ArmCall(model, out, reply, bill.open(model.name, prices, hold), estimate, assemble)
    if call.succeeded and not reply.streams:
        _read_complete(call)
    return call


def _charge_tries(
    bill: Bill,
    model: ModelClient,
    prices: PriceList,
    hold: Hold | None,
    usage: Usage,
    attempts: Attempts,
    before: tuple[int, int],
) -> int:
    """Tries without an answer that the model may have worked on, paid from the call's reservation; how many."""
    lost: tuple[tuple[Origin, int], ...] = (
        ("retry", attempts.timeouts - before[0]),
        ("cancelled", attempts.cut_off - before[1]),
    )
    for origin, count in lost:
        for _ in range(count):
            charge = bill.open(model.name, prices)
            charge.settle(origin, usage, estimated=True)
            if hold:
                hold.take(charge.cost_nano)
    return sum(count for _, count in lost)


def _read_complete(call: ArmCall) -> None:
    """A 200 that is not what was asked for counts as a failure of the upstream."""
    try:
        if call.outgoing.stream:
            raise UpstreamFailed("the upstream answered a streaming request without a stream")
        call.completed = read_reply(call.outgoing.dialect, call.reply.body)
    except UpstreamFailed as error:
        call.reply.failed(str(error))
        call.settle("retry")
        call.close()
        raise UpstreamFailed(f"model '{call.model.name}' failed: {error}") from None
    call.reply.succeeded()


def _tokens(size: int, model: ModelClient) -> int:
    return int(size / model.config.bytes_per_token) + 1
