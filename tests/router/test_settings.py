"""The configuration file: what loads, what is refused and with which words, what is shown of it."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from policies.certify.settings import FloorSettings
from policies.control.stickiness import StickySettings
from policies.registry import CONFIGS
from router.errors import ConfigError
from router.evidence_settings import Audit, Evidence
from router.setting_warnings import open_to_all, warnings
from router.settings import (
    MASK,
    Circuit,
    Config,
    Fallback,
    Health,
    Model,
    Server,
    Timeouts,
    load,
    masked,
    parse,
)
from router.trained.settings import Training
from tests.support.gateway import two_models

EXAMPLE = Path(__file__).resolve().parents[2] / "router.example.yaml"
FROM_THE_ISSUE = """\
server: {host: 127.0.0.1, port: 8080, workers: 1, auth: keys}     # auth: keys | none (must be said)
redis: {url: redis://127.0.0.1:6379/0}      # or `embedded` (the bundled server); left out: evidence goes to the disk spool
models:
  teacher:
    base_urls: [http://127.0.0.1:9101/v1]
    model: big-model                        # the name sent upstream; default: the key
    api_key_env: TEACHER_API_KEY
    price: {input: 2.0, cached_input: 0.2, output: 8.0}            # USD per million tokens
    context_tokens: 131072
    max_output_tokens: 8192
    supports: [tools, json_schema, images, logprobs, responses]
    adapt: {rename: {max_tokens: max_completion_tokens}, drop: [top_k], set: {}, system_prompt: null}
    training_use: unknown                   # allow | deny | unknown
  student: {base_urls: [http://127.0.0.1:9102/v1], price: {input: 0.2, output: 0.8}, training_use: allow}
routes:
  auto: {teacher: teacher, student: student, mode: route, policy: {kind: split, student_share: 0.5}, audit: {rate: 0.01}}
keys: [{name: ci, sha256: "<sha256>", tenant: acme, routes: [auto]}]
""".replace("<sha256>", "ab" * 32)  # noqa: E501 - as it was asked for
SECRET = "sk-very-secret"


def small(**changes: Any) -> dict[str, Any]:
    """The smallest usable configuration, with changes at the top."""
    models = {
        "teacher": {"base_urls": ["http://127.0.0.1:1/v1"], "price": {"input": 2, "output": 8}},
        "student": {"base_urls": ["http://127.0.0.1:2/v1"], "price": {"input": 0.2, "output": 0.8}},
    }
    routes = {"auto": {"teacher": "teacher", "student": "student"}}
    return {"server": {"auth": "none"}, "models": models, "routes": routes, **changes}


def changed(path: str, value: Any) -> dict[str, Any]:
    """`small` with one value set, by its path in the file."""
    data: dict[str, Any] = json.loads(json.dumps(small()))
    *parents, last = path.split(".")
    place: Any = data
    for parent in parents:
        place = place[int(parent)] if isinstance(place, list) else place.setdefault(parent, {})
    place[last] = value
    return data


def problems(data: Any, environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(data if isinstance(data, str) else yaml.safe_dump(data, sort_keys=False), environ or {})
    return str(caught.value).splitlines()


def schema_keys(schema: dict[str, Any]) -> Iterator[str]:
    for place in (schema, *schema.get("$defs", {}).values()):
        yield from place.get("properties", {})


def test_the_configuration_of_the_issue_loads() -> None:
    settings = parse(FROM_THE_ISSUE, {"TEACHER_API_KEY": SECRET})
    assert settings.secrets.upstream["teacher"].get_secret_value() == SECRET
    assert settings.config.models["teacher"].adapt.rename == {"max_tokens": "max_completion_tokens"}
    assert settings.config.routes["auto"].audit.rate == 0.01


def test_the_example_holds_every_key_of_the_schema() -> None:
    written = EXAMPLE.read_text()
    missing = {key for key in schema_keys(Config.model_json_schema()) if f"{key}:" not in written}
    assert not missing


def test_every_key_has_a_comment_where_it_occurs_first() -> None:
    lines = [line for line in EXAMPLE.read_text().splitlines() if not line.startswith("#")]
    for key in schema_keys(Config.model_json_schema()):
        first = next(line for line in lines if f"{key}:" in line.partition("#")[0])
        assert "#" in first, first


def test_the_example_loads_and_shows_every_kind_of_policy() -> None:
    config = load(EXAMPLE, {}).config
    shown = {policy.kind for policy in config.policies.values()} | {r.policy.kind for r in config.routes.values()}
    assert len(shown) == len(CONFIGS)


@pytest.mark.parametrize(
    ("block", "shown", "apart_from"),
    [
        (Server, lambda c: c.server, {"auth"}),
        (Evidence, lambda c: c.evidence, set()),
        (Timeouts, lambda c: c.models["teacher"].timeouts, set()),
        (Health, lambda c: c.models["teacher"].health, set()),
        (Circuit, lambda c: c.models["teacher"].circuit, set()),
        (Audit, lambda c: c.routes["auto"].audit, {"rate"}),
        (Fallback, lambda c: c.routes["auto"].fallback, set()),
        (FloorSettings, lambda c: c.routes["hard"].policy.floor, set()),
        (StickySettings, lambda c: c.routes["hard"].sticky, set()),
        (Training, lambda c: c.routes["hard"].training, set()),
    ],
)
def test_the_example_shows_the_defaults(block: type[BaseModel], shown: Any, apart_from: set[str]) -> None:
    values = shown(load(EXAMPLE, {}).config).model_dump(exclude=apart_from)
    assert values == block().model_dump(exclude=apart_from)


def test_the_examples_plain_model_settings_are_the_defaults() -> None:
    model = load(EXAMPLE, {}).config.models["teacher"]
    for name in ("bytes_per_token", "retries", "max_in_flight", "max_connections", "training_use", "api_key_env"):
        assert getattr(model, name) == Model.model_fields[name].default


def test_the_schema_is_valid_and_accepts_the_example_and_both_short_forms() -> None:
    schema = Config.model_json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    validator.validate(yaml.safe_load(EXAMPLE.read_text()))
    validator.validate(yaml.safe_load(FROM_THE_ISSUE))
    for short in (small(redis="embedded"), small(tenants={"acme": {"audit": False}})):
        validator.validate(short)
        parse(yaml.safe_dump(short), {})


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        small(extra=1),
        changed("server.port", "http"),
        changed("models.teacher.price.input", -1),
        changed("routes.auto.policy", {"kind": "psychic"}),
        changed("routes.auto.audit", {"rate": 2}),
    ],
)
def test_the_schema_refuses_what_the_program_refuses(wrong: dict[str, Any]) -> None:
    assert problems(wrong)
    assert not jsonschema.Draft202012Validator(Config.model_json_schema()).is_valid(wrong)


@pytest.mark.parametrize(
    ("path", "value", "place", "words"),
    [
        ("server.prot", 80, "server.prot", "unknown key"),
        ("modells", {}, "modells", "unknown key"),
        ("server.port", 70_000, "server.port", "65535"),
        ("server.workers", 0, "server.workers", "greater than or equal to 1"),
        ("server.auth", "maybe", "server.auth", "'keys' or 'none'"),
        ("server.auth", None, "server.auth", "must be said"),
        ("redis", "mysql://there", "redis.url", "redis://"),
        ("redis", "redis://there:port", "redis.url", "number"),
        ("redis", "redis://there?db=x", "redis.url", "db"),
        ("models.teacher.base_urls", [], "models.teacher.base_urls", "at least 1"),
        ("models.teacher.base_urls", ["teacher:80"], "models.teacher.base_urls.0", "http(s)://host"),
        ("models.teacher.base_urls", ["http://t:99999/v1"], "models.teacher.base_urls.0", "65535"),
        ("models.teacher.base_urls", ["http://t/v1 x"], "models.teacher.base_urls.0", "spaces"),
        ("models.teacher.price.input", -1, "models.teacher.price.input", "greater than or equal to 0"),
        ("models.teacher.price.output", float("nan"), "models.teacher.price.output", "finite"),
        ("models.teacher.price.output", float("inf"), "models.teacher.price.output", "finite"),
        ("models.teacher.supports", ["flying"], "models.teacher.supports.0", "'tools'"),
        ("models.teacher.adapt", {"set": {"stream": True}}, "models.teacher.adapt", "stream"),
        ("models.teacher.health", {"path": "models"}, "models.teacher.health.path", "^/"),
        ("models.a@b", {"base_urls": ["http://t/v1"], "price": {"input": 1, "output": 1}}, "models.a@b", "'@'"),
        ("routes.auto.teacher", "nobody", "routes.auto.teacher", "known: teacher, student"),
        ("routes.auto.student", "teacher", "routes.auto", "same model"),
        ("routes.teacher", {"teacher": "teacher", "student": "student"}, "routes.teacher", "a model has this name"),
        ("routes.auto.policy", {"kind": "psychic"}, "routes.auto.policy", "'fixed', 'split'"),
        ("routes.auto.policy", {"kind": "split"}, "routes.auto.policy.student_share", "required"),
        ("routes.auto.policy", {"kind": "split", "student_share": 2}, "routes.auto.policy.student_share", "to 1"),
        ("policies.split", {"kind": "split", "student_share": 2}, "policies.split.student_share", "to 1"),
        ("routes.auto.audit", {"comparator": "vibes"}, "routes.auto.audit.comparator", "known: exact"),
        ("routes.auto.audit", {"rate": 1.5}, "routes.auto.audit.rate", "less than or equal to 1"),
        ("embeddings", {"model": "nobody"}, "embeddings.model", "unknown model"),
        ("tenants", {"acme": {"audit": "maybe"}}, "tenants.acme.audit", "'on' or 'off'"),
    ],
)
def test_a_mistake_is_named_with_its_path_and_what_is_allowed(path: str, value: Any, place: str, words: str) -> None:
    (line,) = problems(changed(path, value))
    assert line.startswith(f"{place}: ")
    assert words in line


def test_every_mistake_gets_its_line() -> None:
    data = changed("routes.auto.teacher", "nobody") | {"embeddings": {"model": "no one"}}
    assert [line.partition(":")[0] for line in problems(data)] == ["routes.auto.teacher", "embeddings.model"]


def test_both_mistakes_of_authentication_are_refused() -> None:
    key = {"name": "ci", "sha256": "ab" * 32}
    assert "no key is configured" in problems(small(server={"auth": "keys"}))[0]
    assert "keys are configured" in problems(small(keys=[key]))[0]
    twice = small(server={"auth": "keys"}, keys=[key, key | {"name": "other"}])
    assert problems(twice) == ["keys.1.sha256: listed twice"]
    lost = small(server={"auth": "keys"}, keys=[key | {"routes": ["nowhere"]}])
    assert problems(lost) == ["keys.0.routes: unknown route 'nowhere'; known: auto"]


def test_without_authentication_the_default_address_is_loopback_and_any_other_is_warned_of() -> None:
    server = parse(yaml.safe_dump(small()), {}).config.server
    assert not open_to_all(server, server.host)
    hosts = ("localhost", "::1", "127.9.9.9", "0.0.0.0", "::", "example.org")
    assert [bool(open_to_all(server, host)) for host in hosts] == [False, False, False, True, True, True]
    assert not open_to_all(server.model_copy(update={"auth": "keys"}), "0.0.0.0")


def test_a_budget_whose_key_or_tenant_the_file_does_not_have_is_warned_of() -> None:
    usual = {"window": "day", "limit_usd": 1}
    scopes = {
        "known": {"key": "ci"},
        "lost": {"key": "nokey"},
        "acme": {"tenant": "acme"},
        "beta": {"tenant": "beta"},
        "acm": {"tenant": "acm"},
        "each": {"each": "key", "window": "hour"},
        "route": {"route": "auto"},
        "all": {},
    }
    data = small(
        server={"auth": "keys"},
        redis="embedded",
        keys=[{"name": "ci", "sha256": "ab" * 32, "tenant": "acme"}],
        tenants={"beta": {}},
        budgets={name: usual | scope for name, scope in scopes.items()},
    )
    for model in data["models"].values():
        model["max_output_tokens"] = 10
    found = warnings(parse(yaml.safe_dump(data), {}).config)
    assert [line.partition(";")[0] for line in found] == [
        "budgets.acm.tenant: this file has no tenant 'acm'",
        "budgets.lost.key: this file has no key 'nokey'",
    ]
    assert "it has: acme, beta." in found[0] and "it has: ci." in found[1]


def test_a_secret_that_the_environment_lacks_or_no_header_may_carry_is_named() -> None:
    data = changed("models.teacher.api_key_env", "TEACHER_KEY") | {"redis": {"url": "embedded", "password_env": "PW"}}
    assert problems(data) == [
        "models.teacher.api_key_env: the environment has no TEACHER_KEY",
        "redis.password_env: the environment has no PW",
    ]
    (line,) = problems(data, {"TEACHER_KEY": "sk-1\r\nx-evil: 1", "PW": "p"})
    assert line.startswith("models.teacher.api_key_env: TEACHER_KEY") and "sk-1" not in line
    assert parse(yaml.safe_dump(data), {"PW": "p"}, upstream_keys=False).secrets.upstream == {}


def test_no_secret_is_shown() -> None:
    data = small(redis=f"redis://user:{SECRET}@there/0?password={SECRET}&db=1")
    data["models"]["teacher"] |= {"base_urls": [f"https://me:{SECRET}@there/v1"], "api_key_env": "TEACHER_KEY"}
    settings = parse(yaml.safe_dump(data), {"TEACHER_KEY": SECRET})
    shown = yaml.safe_dump(masked(settings))
    assert SECRET not in shown
    assert shown.count(MASK) == 4
    assert SECRET not in repr(settings.secrets)


@pytest.mark.parametrize("text", ["a: 1\na: 2", "models:\n  x: 1\n  x: 2", "a: [{b: 1, b: 2}]", "{1: a, 1: b}"])
def test_a_key_given_twice_is_refused_with_its_line(text: str) -> None:
    (line,) = problems(text)
    assert "is given twice" in line and line.startswith("line ")


@pytest.mark.parametrize("value", ["2026-13-01", "!!int x", "!!bool 7", "!!timestamp soon", "{[a]: b}", "{{a: b}: c}"])
def test_a_value_that_its_type_does_not_allow_is_refused_with_its_line(value: str) -> None:
    (line,) = problems(f"server: {{auth: keys}}\nkeys:\n  - name: a\n    expires: {value}\n")
    assert line.startswith("line 4: not YAML: ")


def test_yaml_anchors_and_merges_work() -> None:
    text = yaml.safe_dump(small()) + "policies:\n  a: &a {kind: split, student_share: 0.1}\n  b: {<<: *a}\n"
    assert parse(text, {}).config.policies["b"] == parse(text, {}).config.policies["a"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# nothing",
        "- a",
        "hello",
        "a: [",
        "\t",
        "? [a]\n: b",
        "? {a: b}\n: c",
        "a: !!int x",
        "a: !!bool x",
        "a: !!timestamp x",
        "a: 2024-99-99",
        "a: !!python/object:os.system x",
        "&a a: *a",
        "a: &a [*a]",
        "a: " + "[" * 2000,
        "a: " + "{x: " * 2000 + "}" * 2000,
        "a: 0x" + "f" * 9000,
        "a: " + "1" * 9000,
        "\x00",
    ],
)
def test_what_is_no_mapping_is_refused(text: str) -> None:
    assert problems(text)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(os.urandom(64) + b"\xff\xfe\x00")
    for path in (tmp_path / "missing.yaml", tmp_path, binary):
        with pytest.raises(ConfigError, match="cannot be read"):
            load(path, {})


JSONISH = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["auto", "teacher", "keys"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
PATHS = st.sampled_from(
    [
        *("server", "server.port", "redis", "redis.url", "evidence", "models", "models.teacher", "policies", "keys"),
        *("models.teacher.base_urls", "models.teacher.price", "models.teacher.adapt", "models.teacher.timeouts"),
        *("routes", "routes.auto", "routes.auto.policy", "routes.auto.policy.rules", "routes.auto.audit"),
        *("embeddings", "tenants", "tenants.acme", "policies.x.calibration"),
    ]
)


@given(PATHS, JSONISH)
def test_any_value_anywhere_either_loads_or_is_a_configuration_error(path: str, value: Any) -> None:
    loads_or_is_refused(json.dumps(changed(path, value)))


@given(st.text() | st.text(alphabet="{}[]:,-&*!?|>'\"#%@ \n\tabc01<~").map(lambda text: "a: " + text))
def test_any_text_either_loads_or_is_a_configuration_error(text: str) -> None:
    loads_or_is_refused(text)


def loads_or_is_refused(text: str) -> None:
    try:
        parse(text, {})
    except ConfigError as error:
        assert str(error)


def test_what_is_allowed_and_hardly_meant_is_a_warning() -> None:
    audit = {"rate": 0.1, "budget_usd_per_day": 0, "targeted": {"low_confidence": 0.1}}
    route = {"audit": audit, "sticky": {"ttl_s": 60}}
    config = two_models("http://127.0.0.1:1/v1", "http://127.0.0.1:2/v1", route=route, redis="redis://r")
    for model in config["models"].values():
        model["max_output_tokens"] = 16
    config["comparators"] = {"mine": {"kind": "command", "argv": ["/nowhere/compare"]}}
    told = warnings(parse(json.dumps(config), {}).config)
    assert [warning.partition(": ")[0] for warning in told] == [
        "models.teacher.training_use",
        "routes.auto.audit.budget_usd_per_day",
        "routes.auto.audit.targeted.low_confidence",
        "routes.auto.sticky",
        "comparators.mine",
    ]


def test_what_learns_or_certifies_without_being_told_anything_is_a_warning() -> None:
    floor = {"kind": "difficulty", "file": "/nowhere/a.policy", "floor": {}}
    audit = {"rate": 0.0, "budget_usd_per_day": 0}
    config = two_models("http://127.0.0.1:1/v1", "http://127.0.0.1:2/v1", redis="redis://r", policy=floor)
    for model in config["models"].values():
        model |= {"max_output_tokens": 16, "training_use": "deny"}
    plain = {**config["routes"]["auto"], "policy": {"kind": "difficulty", "threshold": 1}}
    config["routes"] = {
        "auto": {**config["routes"]["auto"], "audit": audit},
        "seen": {**config["routes"]["auto"], "mode": "observe", "audit": {"rate": 0.1}},
        "learns": {**plain, "training": {}},
        "floored": {**plain, "training": {}, "policy": {"kind": "difficulty", "floor": {}}},
        "gated": {**plain, "training": {}, "policy": {"kind": "cascade", "gate": "learned", "floor": {}}},
        "reads": {**plain, "encoder": {"kind": "onnx", "model": "/nowhere/m.onnx", "tokenizer": "/nowhere/t.json"}},
    }
    told = warnings(parse(json.dumps(config), {}).config)
    assert [warning.partition(": ")[0] for warning in told] == [
        "routes.auto.audit.budget_usd_per_day",
        "routes.seen.policy.floor",
        "routes.learns.training",
        "routes.floored.training",
        "routes.auto.policy.file",
        "routes.seen.policy.file",
        "routes.reads.encoder.model",
        "routes.reads.encoder.tokenizer",
    ]
    assert "routes.auto.policy.file: there is no file '/nowhere/a.policy' here" in told


@pytest.mark.parametrize(
    ("policy", "told"), [({}, True), ({"gate": "checks", "checks": {"a": {"kind": "json_schema"}}}, False)]
)
def test_a_gate_by_log_probabilities_that_the_student_is_not_said_to_give_is_a_warning(
    policy: dict[str, Any], told: bool
) -> None:
    cascade, models = {"kind": "cascade", **policy}, {"supports": ["tools"]}
    config = two_models("http://127.0.0.1:1/v1", "http://127.0.0.1:2/v1", policy=cascade, models=models)
    found = [warning.partition(": ")[0] for warning in warnings(parse(json.dumps(config), {}).config)]
    assert ("routes.auto.policy.gate" in found) is told


def test_scheduled_training_without_its_libraries_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    policy, route = {"kind": "difficulty", "threshold": 1}, {"training": {}, "audit": {"rate": 0.1}}
    config = two_models("http://127.0.0.1:1/v1", "http://127.0.0.1:2/v1", policy=policy, route=route, redis="redis://r")
    config["models"]["teacher"]["training_use"] = "deny"
    read = parse(json.dumps(config), {}).config
    assert warnings(read) == []
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    assert warnings(read) == [
        "routes.auto.training: needs lightgbm, not installed here: pip install 'distill-router[learn]'"
    ]


@pytest.mark.parametrize(
    ("comparator", "problem"),
    [
        ({"kind": "command", "argv": "python3 x"}, "comparators.mine.argv: expected a list"),
        ({"kind": "command", "argv": []}, "comparators.mine.argv: expected at least 1, not 0"),
        ({"argv": ["x"]}, "comparators.mine: `kind` is missing"),
        ({"kind": "oracle"}, "comparators.mine: unknown kind 'oracle'; known: "),
        ({"kind": "label", "alias": {}}, "comparators.mine.alias: unknown key; known: aliases, kind"),
    ],
)
def test_a_bad_comparator_is_named_with_what_is_allowed(comparator: dict[str, Any], problem: str) -> None:
    config = two_models("http://127.0.0.1:1/v1", "http://127.0.0.1:2/v1", comparators={"mine": comparator})
    with pytest.raises(ConfigError, match=re.escape(problem)):
        parse(json.dumps(config), {})
