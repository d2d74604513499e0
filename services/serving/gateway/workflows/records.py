"""What the inference log says of an answer, of a canary that could not give one, and of a shadow."""

from datetime import UTC, datetime

from libs.contracts.inference import Inference, Role
from libs.contracts.routes import Arm
from services.serving.gateway.domain import Chunk
from services.serving.gateway.workflows.plan import NOT_ROUTABLE, Plan, intended


def answered(plan: Plan, error: str | None, now: float) -> Inference:
    """The record of an answer, whole, failed or broken off."""
    usage = plan.last.usage if plan.last else None
    return Inference(
        request_id=plan.query.request_id,
        generation=plan.route.generation,
        version=plan.arm.version,
        role=plan.arm.role,
        # A stand-in's answer was not assigned by chance: it must not count for the stable version.
        explicit=plan.choice.explicit or plan.arm is plan.choice.fallback,
        unit=plan.unit,
        segment=plan.query.segment or None,
        assignment_probability=plan.choice.probability,
        messages=plan.messages,
        output="".join(plan.text),
        tools=plan.form.tools,
        tool_calls=plan.tool_calls,
        rule=plan.rule,
        key=plan.caller.name,
        finish_reason=plan.finish_reason,
        error=error,
        prompt_tokens=usage.prompt_tokens if usage else 0,
        completion_tokens=usage.completion_tokens if usage else 0,
        latency_ms=round(1000 * (now - plan.began), 3),
        first_token_ms=round(1000 * ((plan.first_token or now) - plan.began), 3),
        provenance=plan.last.provenance if plan.last else intended(plan.arm),
        created_at=datetime.now(UTC),
    )


def canary_failure(plan: Plan) -> Inference:
    """The record of a canary for which the stable version stood in."""
    canary = plan.choice.arm
    return Inference(
        request_id=f"{plan.query.request_id}.canary",
        pair_id=plan.query.request_id,
        generation=plan.route.generation,
        version=canary.version,
        role=Role.CANARY,
        unit=plan.unit,
        segment=plan.query.segment or None,
        assignment_probability=plan.choice.probability,
        messages=plan.messages,
        tools=plan.form.tools,
        error=plan.canary_trouble or NOT_ROUTABLE,
        provenance=intended(canary),
        created_at=datetime.now(UTC),
    )


def shadowed(
    plan: Plan, arm: Arm, request_id: str, chunks: list[Chunk], error: str | None, seconds: float, first: float
) -> Inference:
    """The record of a shadow's answer, paired with the request it mirrors. Times in seconds."""
    last = chunks[-1] if chunks else None
    usage = last.usage if last else None
    return Inference(
        request_id=request_id,
        pair_id=plan.query.request_id,
        generation=plan.route.generation,
        version=arm.version,
        role=Role.SHADOW,
        unit=plan.unit,
        segment=plan.query.segment or None,
        assignment_probability=plan.route.shadow_rate,
        messages=plan.messages,
        output="".join(each.text for each in chunks),
        tools=plan.form.tools,
        tool_calls=tuple(call for each in chunks for call in each.tool_calls),
        finish_reason=last.finish_reason if last else "",
        error=error,
        prompt_tokens=usage.prompt_tokens if usage else 0,
        completion_tokens=usage.completion_tokens if usage else 0,
        latency_ms=round(1000 * seconds, 3),
        first_token_ms=round(1000 * first, 3),
        provenance=last.provenance if last else intended(arm),
        created_at=datetime.now(UTC),
    )
