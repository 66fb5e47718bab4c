"""Names of slices as a person reads them."""

from __future__ import annotations

from router.lossmap.examples import readable

GUARDS = {
    "tools": "requests with tools",
    "json_schema": "requests with a JSON schema",
    "images": "requests with images",
    "logprobs": "requests for log-probabilities",
    "n": "requests for several answers",
    "output": "requests for longer outputs",
    "context": "requests beyond its context",
    "responses": "Responses requests that chat cannot say",
}


def title(name: str) -> str:
    """`opening:sort` as `sort …`, `length:under 100` as `prompts of under 100 characters`, and so on."""
    plain, _, condition = readable(name).replace("\n", " ").partition(" & ")
    dimension, colon, value = plain.partition(":")
    shown = _title(dimension, value) if colon else plain
    return f"{shown}, {condition}" if condition else shown


def _title(dimension: str, value: str) -> str:
    match dimension:
        case "opening":
            return f"{value} …"
        case "kind":
            return f"answers: {value}"
        case "tool":
            return f"calls {value}"
        case "field":
            return f"field {value}"
        case "language":
            return f"in {value}"
        case "length":
            return f"prompts of {value} characters"
        case "system":
            return "no system prompt" if value == "none" else "system prompt {} “{}…”".format(*_system(value))
        case "misfit":
            return f"never asked: {GUARDS.get(value, value)}"
        case _:
            return f"{dimension}: {value}"


def _system(value: str) -> tuple[str, str]:
    digest, _, begins = value.partition(" ")
    return digest, begins
