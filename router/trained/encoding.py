"""Which slot gets its vectors from which encoder, over reloads."""

from __future__ import annotations

from policies.learn.trained import Slots
from router.settings import Settings
from router.trained.encoders import encoder_of
from router.trained.live_encoder import LiveEncoder
from router.trained.settings import EncoderSettings

Wanted = tuple[EncoderSettings, object]
Prepared = dict[str, tuple[Wanted, LiveEncoder]]


class Encoding:
    """One per process. An encoder whose settings did not change is kept."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._used: Prepared = {}

    def prepared(self, settings: Settings) -> Prepared:
        """By slot; reads files, so that it belongs beside the event loop. Raises ConfigError."""
        found: Prepared = {}
        for route, config in settings.config.routes.items():
            name = config.policy.trained_for(route)
            if config.encoder is None or name is None:
                continue
            served = settings.config.models.get(config.encoder.model) if config.encoder.kind == "embeddings" else None
            wanted = config.encoder, served
            before = self._used.get(name)
            if before is not None and before[0] == wanted:
                found[name] = before
            elif encoder := encoder_of(settings, route):
                found[name] = wanted, LiveEncoder(encoder, config.encoder.timeout_s)
        return found

    def use(self, prepared: Prepared) -> None:
        """From the next decision on."""
        old, self._used = self._used, prepared
        for name in {*old, *prepared}:
            self._slots.named(name).encode = prepared[name][1].vector if name in prepared else None
        for live in {each for _, each in old.values()} - {each for _, each in prepared.values()}:
            live.close()

    def close(self) -> None:
        self.use({})
