"""The chart for every values file in its ci folder: clean, valid, restricted, and with a configuration that works."""

from __future__ import annotations

from pathlib import Path

import kubernetes_validate  # type: ignore[import-untyped]  # it ships no types
import pytest

from router import settings
from tests.deploy.chart import Chart, HelmRefused

CHART = Path(__file__).parents[2] / "helm" / "distill-router"
CI = sorted((CHART / "ci").glob("*-values.yaml"))
VALUES = [pytest.param((path,), id=path.stem.removesuffix("-values")) for path in CI] + [pytest.param((), id="default")]
SECRETS = {"TEACHER_API_KEY": "secret", "REDIS_PASSWORD": "secret"}
ROUTER_YAML = """\
# As it is, comments included.
server: {auth: none}   # nobody
redis: {url: "redis://elsewhere:6379/0"}
models:
  teacher: {base_urls: [http://t:1/v1], price: {input: 1, output: 1}}
"""


@pytest.mark.parametrize("values", VALUES)
def test_the_chart_lints_without_a_warning(chart: Chart, values: tuple[Path, ...]) -> None:
    assert "[WARNING]" not in chart.lint(*values)


@pytest.mark.parametrize("values", VALUES)
def test_every_manifest_matches_the_schema_of_kubernetes(chart: Chart, values: tuple[Path, ...]) -> None:
    for manifest in chart.render(*values).manifests:
        kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize("values", VALUES)
def test_the_gateway_accepts_the_rendered_configuration(chart: Chart, values: tuple[Path, ...]) -> None:
    assert settings.parse(chart.render(*values).router_yaml, SECRETS).config.routes


@pytest.mark.parametrize("values", VALUES)
def test_every_pod_keeps_to_the_restricted_profile(chart: Chart, values: tuple[Path, ...]) -> None:
    for pod in chart.render(*values).pod_specs():
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


@pytest.mark.parametrize("values", VALUES)
def test_every_container_says_what_it_needs_and_how_it_feels(chart: Chart, values: tuple[Path, ...]) -> None:
    for pod in chart.render(*values).pod_specs():
        for container in pod["containers"]:
            assert container["resources"]["requests"]["memory"]
            assert container["resources"]["limits"]["memory"]
            assert container["readinessProbe"] != container["livenessProbe"]


@pytest.mark.parametrize("values", VALUES)
def test_selectors_match_the_pods_of_one_component_only(chart: Chart, values: tuple[Path, ...]) -> None:
    rendered = chart.render(*values)
    pods = [m["spec"]["template"]["metadata"]["labels"] for m in rendered.manifests if "template" in m.get("spec", {})]
    for service in rendered.of_kind("Service"):
        matching = [pod for pod in pods if service["spec"]["selector"].items() <= pod.items()]
        assert [pod["app.kubernetes.io/component"] for pod in matching] == [
            service["metadata"]["labels"]["app.kubernetes.io/component"]
        ]


@pytest.mark.parametrize("values", VALUES)
def test_the_grace_period_covers_the_pause_and_the_drain(chart: Chart, values: tuple[Path, ...]) -> None:
    rendered = chart.render(*values)
    pod = rendered.gateway["spec"]
    pause = int(pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
    drain_s = settings.parse(rendered.router_yaml, SECRETS).config.server.drain_s
    assert pod["terminationGracePeriodSeconds"] >= pause + drain_s + 5


def test_the_gateway_is_probed_for_life_and_readiness(chart: Chart) -> None:
    (container,) = chart.render().gateway["spec"]["containers"]
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "http"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}


def test_what_the_gateway_writes_is_on_volumes(chart: Chart) -> None:
    pod = chart.render().gateway["spec"]
    (container,) = pod["containers"]
    writable = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
    assert writable == {"/tmp", container["workingDir"]}


def test_a_changed_configuration_rolls_the_pods_unless_told_otherwise(chart: Chart) -> None:
    def annotations(**more: object) -> dict[str, str]:
        found: dict[str, str] = chart.render(CI[0], **more).gateway["metadata"].get("annotations", {})
        return found

    assert "checksum/config" not in annotations()  # external-redis: restartOnConfigChange: false
    before = annotations(restartOnConfigChange=True)
    after = annotations(restartOnConfigChange=True, config__server__drain_s=7)
    assert before["checksum/config"] != after["checksum/config"]


def test_one_pod_has_no_disruption_budget_and_two_have_one(chart: Chart) -> None:
    assert not chart.render(replicaCount=1).of_kind("PodDisruptionBudget")
    assert chart.render(replicaCount=2).one("PodDisruptionBudget")["spec"]["maxUnavailable"] == 1


def test_a_mapping_without_redis_is_given_the_one_of_the_chart(chart: Chart) -> None:
    rendered = chart.render(CHART / "ci" / "redis-values.yaml")
    redis = settings.parse(rendered.router_yaml, SECRETS).config.redis
    service = next(s for s in rendered.of_kind("Service") if s["spec"].get("clusterIP") == "None")
    assert redis is not None
    assert redis.url == f"redis://{service['metadata']['name']}:6379/0"


def test_another_redis_is_used_with_its_password_and_none_is_started(chart: Chart) -> None:
    rendered = chart.render(CHART / "ci" / "external-redis-values.yaml")
    redis = settings.parse(rendered.router_yaml, SECRETS).config.redis
    assert redis is not None
    assert (redis.url, redis.password_env) == ("rediss://redis.example.com:6380/2", "REDIS_PASSWORD")
    assert rendered.gateway["spec"]["containers"][0]["env"][0]["name"] == redis.password_env
    assert not rendered.of_kind("StatefulSet")


def test_redis_refuses_writes_when_full_and_survives_a_restart(chart: Chart) -> None:
    stateful = chart.render().one("StatefulSet")
    arguments = stateful["spec"]["template"]["spec"]["containers"][0]["args"]
    options = dict(zip(arguments[::2], arguments[1::2], strict=True))
    assert options["--maxmemory-policy"] == "noeviction"
    assert options["--appendonly"] == "yes"
    assert stateful["spec"]["volumeClaimTemplates"][0]["metadata"]["name"] == "data"


def test_a_configuration_given_as_a_file_is_taken_verbatim(chart: Chart, tmp_path: Path) -> None:
    path = tmp_path / "router.yaml"
    path.write_text(ROUTER_YAML)
    assert chart.render(config=path).router_yaml == ROUTER_YAML


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ("server: {auth: none}", "config is a text without `redis`"),
        ("server: {auth: none", "config is not YAML"),
    ],
)
def test_a_text_that_cannot_work_is_refused_with_the_reason(
    chart: Chart, tmp_path: Path, config: str, complaint: str
) -> None:
    path = tmp_path / "router.yaml"
    path.write_text(config)
    with pytest.raises(HelmRefused, match=complaint):
        chart.render(config=path)


@pytest.mark.parametrize(
    ("setting", "value"), [("replicas", 3), ("replicaCount", 0), ("redis__url", "http://redis"), ("redis__on", True)]
)
def test_a_mistaken_value_is_refused_by_the_schema(chart: Chart, setting: str, value: object) -> None:
    with pytest.raises(HelmRefused, match="values don't meet the specifications of the schema"):
        chart.render(**{setting: value})


def test_two_redises_are_one_too_many(chart: Chart) -> None:
    with pytest.raises(HelmRefused, match="choose one"):
        chart.render(redis__enabled=True, redis__url="redis://other:6379/0")
