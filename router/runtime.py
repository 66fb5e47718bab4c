"""Everything that is built from one configuration: models, routes, policies, callers. Replaced whole on a reload."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from policies.base import Arm, Policy, PolicyConfig
from policies.fixed import FixedConfig
from policies.learn.artifact import CalibrationSet
from policies.learn.trained import Slots, Trained
from router.auth import Authenticator, Caller
from router.complaints import Complaints
from router.control.conversations import Conversations
from router.control.live import Boards, LiveRoute
from router.errors import BadRequest, NotFound, UnknownModel
from router.evidence.compare.registry import Comparators
from router.settings import Config, Route, Settings
from router.upstream.model import ModelClient


@dataclass(frozen=True, slots=True)
class Standing:
    """What outlives a configuration: trained policies, and what the controllers and conversations of routes know."""

    slots: Slots = field(default_factory=Slots)
    boards: Boards = field(default_factory=Boards)
    conversations: Conversations = field(default_factory=Conversations)


@dataclass(frozen=True, slots=True)
class RouteRuntime:
    """A configured route with its two models, its policy, and the policies that a header may name.

    `live`: what the route knows now; `plain`: the same without the policy's controllers, for policies by header, whose
    losses a floor knows nothing of. `complaints`: where a policy that raises is told of.
    """

    name: str
    config: Route
    teacher: ModelClient
    student: ModelClient
    policy: Policy
    named: Mapping[str, Policy]
    live: LiveRoute
    plain: LiveRoute
    complaints: Complaints = field(default_factory=Complaints)

    def model(self, arm: Arm) -> ModelClient:
        return self.teacher if arm == "teacher" else self.student

    def arm_named(self, name: str) -> Arm:
        """The arm that a client means by 'teacher', 'student' or a model's name. Raises BadRequest."""
        for arm, model in (("teacher", self.teacher), ("student", self.student)):
            if name in (arm, model.name):
                return "teacher" if arm == "teacher" else "student"
        known = f"{self.teacher.name}, {self.student.name}"
        raise BadRequest(f"x-router-model: route '{self.name}' has no model '{name}'; known: {known}")


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes: a route with the policy to ask, or one model. `forced`: the client insisted.

    `runtime`: the configuration it came with, which stays open as long as anything refers to it.
    """

    route: RouteRuntime | None
    policy: Policy | None
    model: ModelClient | None
    arm: Arm | None
    forced: bool
    runtime: Runtime | None = None


class Runtime:
    """Built from `settings`; takes over the model clients of `previous` whose configuration did not change."""

    def __init__(self, settings: Settings, standing: Standing, previous: Runtime | None = None) -> None:
        self.settings = settings
        self.config: Config = settings.config
        self.authenticator = Authenticator(self.config)
        old: dict[str, ModelClient] = previous.models if previous else {}
        self.models: dict[str, ModelClient] = {name: self._client(name, old.get(name)) for name in self.config.models}
        self.comparators = Comparators(self.config.comparators)
        self.routes = {name: self._route(name, route, standing) for name, route in self.config.routes.items()}

    def start(self, previous: Runtime | None = None) -> None:
        """Start the health checks of models that `previous` did not have."""
        old = set(previous.models.values()) if previous else set()
        for model in set(self.models.values()) - old:
            model.start()

    async def close(self) -> None:
        for model in self.models.values():
            await model.close()

    def trained(self) -> frozenset[str]:
        """The names of the slots that its policies follow."""
        routes, named = self.config.routes.items(), self.config.policies.values()
        found = {policy.trained_for(name) for name, route in routes for policy in (route.policy, *named)}
        return frozenset(name for name in found if name is not None)

    def visible(self, caller: Caller) -> list[str]:
        """The routes and models that a caller may name."""
        return [name for name in (*self.routes, *self.models) if self._may_name(name, caller)]

    def embedder(self, name: str, caller: Caller) -> Target:
        """The one model for embeddings. Raises NotFound when there is none, UnknownModel for any other name."""
        if self.config.embeddings is None:
            raise NotFound("no model for embeddings is configured (embeddings.model)")
        model = self.models[self.config.embeddings.model]
        if name not in (model.name, model.upstream_name) or not self._may_name(model.name, caller):
            raise UnknownModel(f"the model '{name}' does not serve embeddings here", param="model")
        return Target(None, None, model, None, True, self)

    def _may_name(self, name: str, caller: Caller) -> bool:
        if name in self.routes:
            return caller.allows(name)
        if self.config.embeddings and name == self.config.embeddings.model and caller.allows(name):
            return True
        return name in self.models and "force_model" in caller.permissions

    def resolve(self, name: str, caller: Caller, model_header: str | None, policy_header: str | None) -> Target:
        """What a request's `model` and override headers mean. Raises UnknownModel, BadRequest, Forbidden."""
        base, at, point = name.partition("@")
        if not self._may_name(base, caller):
            raise UnknownModel(f"the model '{name}' does not exist or you do not have access to it", param="model")
        if base in self.models:
            if at:
                raise BadRequest(f"'{base}' is a model; only a route has an operating point", param="model")
            return Target(None, None, self.models[base], None, True, self)
        route = self.routes[base]
        if model_header is not None:
            caller.require("override", "the header x-router-model")
            return Target(route, None, None, route.arm_named(model_header), True, self)
        if policy_header is not None:
            caller.require("override", "the header x-router-policy")
            return Target(route, _policy_named(route, policy_header), None, None, True, self)
        return Target(route, _at(route.policy, point) if at else route.policy, None, None, False, self)

    def _route(self, name: str, config: Route, standing: Standing) -> RouteRuntime:
        teacher, student = self.models[config.teacher], self.models[config.student]
        policy = config.policy.build(name, standing.slots)
        controls, trained = config.policy.controls(), config.policy.trained_for(name)
        slot = standing.slots.named(trained) if trained else None
        live = LiveRoute(
            standing.boards.named(name),
            teacher,
            student,
            scorer=lambda: policy.scorer,
            threshold=controls.threshold,
            floor=controls.floor,
            paced=controls.pace is not None,
            sticky=config.sticky if controls.sticks else None,
            conversations=standing.conversations,
            calibration=lambda: _calibration(slot.current, teacher, student) if slot and slot.current else None,
        )
        named = {each: other.build(name, standing.slots) for each, other in self._named_policies().items()}
        plain = LiveRoute(standing.boards.named(name), teacher, student)
        return RouteRuntime(name, config, teacher, student, policy, named, live, plain)

    def _named_policies(self) -> dict[str, PolicyConfig]:
        arms: tuple[Arm, ...] = ("teacher", "student")
        return self.config.policies | {f"fixed-{arm}": FixedConfig(kind="fixed", model=arm) for arm in arms}

    def _client(self, name: str, old: ModelClient | None) -> ModelClient:
        config, api_key = self.config.models[name], self.settings.secrets.upstream.get(name)
        if old and old.config == config and old.api_key == api_key:
            return old
        return ModelClient(name, config, api_key)


def _calibration(trained: Trained, teacher: ModelClient, student: ModelClient) -> CalibrationSet | None:
    """The pairs of a trained policy from which a floor may start: none of other models, or of none that it names."""
    taught_by = {"teacher": [teacher.version], "student": [student.version]}
    return trained.calibration_set if trained.report.get("models") == taught_by else None


def _policy_named(route: RouteRuntime, name: str) -> Policy:
    if name not in route.named:
        raise BadRequest(f"x-router-policy: unknown policy '{name}'; known: {', '.join(route.named)}")
    return route.named[name]


def _at(policy: Policy, point: str) -> Policy:
    try:
        return policy.at(float(point))
    except ValueError as error:
        raise BadRequest(f"operating point '@{point}': {error}", param="model") from None
