"""The detectors, in the order in which they win where two find the same place."""

from __future__ import annotations

from router.export.redact.base import Detector
from router.export.redact.contact import EMAIL, Phone
from router.export.redact.money import Card, Iban
from router.export.redact.network import Ip
from router.export.redact.secret import PASSWORD, PRIVATE_KEY, TOKENS

DETECTORS: tuple[Detector, ...] = (PRIVATE_KEY, *TOKENS, PASSWORD, EMAIL, Iban(), Card(), Ip(), Phone())
