"""Which requests a task answers that name no task, and which of its users never get a canary."""

from collections.abc import Mapping
from typing import Self

from pydantic import Field, model_validator

from libs.contracts.ids import NAME_PATTERN
from libs.contracts.task.section import Section


class Condition(Section):
    """What a request must say; every field that is set must hold, any of its values will do.

    `headers` compares whole values, names without regard to case.
    """

    task: tuple[str, ...] = ()
    task_type: tuple[str, ...] = ()
    segment: tuple[str, ...] = ()
    domain: tuple[str, ...] = ()
    headers: dict[str, str] = Field(default_factory=dict)

    @property
    def strictness(self) -> int:
        """How many things it asks for."""
        named = (self.task, self.task_type, self.segment, self.domain)
        return sum(bool(each) for each in named) + len(self.headers)

    def failing(self, facts: Mapping[str, str], headers: Mapping[str, str]) -> str | None:
        """The first part that does not hold, in words; None when all hold. Header names are lower case in `headers`."""
        for name in ("task", "task_type", "segment", "domain"):
            wanted, said = getattr(self, name), facts.get(name, "")
            if wanted and said not in wanted:
                return f"{name} is {said!r}, not {' or '.join(repr(each) for each in wanted)}"
        for name, value in self.headers.items():
            said = headers.get(name.lower(), "")
            if said != value:
                return f"header {name} is {said!r}, not {value!r}"
        return None


class RoutingSpec(Section):
    """A task's claim on requests that ask for `auto`: by type, segment, domain or header; the strictest claim wins."""

    claims: tuple[Condition, ...] = ()
    default: bool = Field(False, description="this task answers what nobody claims; one task per tenant")
    no_canary: tuple[str, ...] = Field((), description="user segments that get stable versions only")

    @model_validator(mode="after")
    def _claims_ask_for_something(self) -> Self:
        for number, claim in enumerate(self.claims):
            if claim.strictness == 0:
                raise ValueError(f"claims.{number} asks for nothing: say default: true instead")
            if claim.task:
                raise ValueError(f"claims.{number}.task: a task claims requests that name none")
        return self


class RoutingRule(Section):
    """An operator's rule: the first that holds decides. `to` is a task, or one version of it."""

    name: str = Field(min_length=1, max_length=100)
    when: Condition = Condition()
    to: str = Field(pattern=NAME_PATTERN.removesuffix("$") + r"(@(0|[1-9][0-9]{0,8}))?$")


class RoutingRules(Section):
    """An operator's rules for a tenant, in order: before what tasks claim, never before an explicit version."""

    tenant: str = "default"
    rules: tuple[RoutingRule, ...] = ()

    @model_validator(mode="after")
    def _names_tell_apart(self) -> Self:
        names = [each.name for each in self.rules]
        twice = sorted({each for each in names if names.count(each) > 1})
        if twice:
            raise ValueError(f"two rules are called {twice[0]!r}")
        return self
