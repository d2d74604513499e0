"""What an engine decides, without an engine."""

import pytest

from libs.contracts.errors import FailedPrecondition, InvalidInput
from libs.contracts.inference import Role
from libs.contracts.routes import Arm, Route
from services.serving.engine.domain import (
    AdapterDescription,
    Residency,
    Version,
    Wanted,
    check_files,
    check_metadata,
    check_shapes,
    choose_pins,
    wanted_versions,
)

BASE = "sha256:base"
CONFIG = {"peft_type": "LORA", "r": 8, "target_modules": ["q_proj"], "bias": "none", "modules_to_save": None}
ORIGIN = {"base_digest": BASE, "tokenizer_digest": "tok", "template_digest": "tpl"}
A, B = ("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight",
        "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight")  # fmt: skip
WEIGHTS = {"model.layers.0.self_attn.q_proj.weight": (32, 64)}
FILES = ["adapter_config.json", "adapter_model.safetensors", "pawl.json"]


def checked(config: dict[str, object] | None = None, origin: dict[str, object] | None = None) -> AdapterDescription:
    return check_metadata(
        {**CONFIG, **(config or {})},
        {**ORIGIN, **(origin or {})},
        base_digest=BASE,
        tokenizer_digest="tok",
        template_digest="tpl",
        max_rank=16,
    )


def arm(version: int, role: Role, digest: str, base: str = BASE) -> Arm:
    return Arm(version=version, role=role, digest=digest, base_digest=base, adapter_digest=digest)


def route(task: str, *arms: Arm) -> Route:
    return Route(tenant="default", task=task, generation=1, salt="s", arms=arms)


def test_an_adapter_of_this_base_is_accepted() -> None:
    check_files(FILES)
    description = checked()
    check_shapes(description, {A: (8, 64), B: (32, 8)}, WEIGHTS)
    assert description.rank == 8


@pytest.mark.parametrize(
    ("config", "origin", "field"),
    [
        ({"r": 32}, {}, "r"),
        ({"r": True}, {}, "r"),
        ({"r": 0}, {}, "r"),
        ({"peft_type": "IA3"}, {}, "peft_type"),
        ({"modules_to_save": ["lm_head"]}, {}, "modules_to_save"),
        ({"use_dora": True}, {}, "use_dora"),
        ({"bias": "all"}, {}, "bias"),
        ({"rank_pattern": {"q_proj": 4}}, {}, "rank_pattern"),
        ({"target_modules": "all-linear"}, {}, "target_modules"),
        ({}, {"base_digest": "sha256:other"}, "base_digest"),
        ({}, {"base_digest": ""}, "base_digest"),
        ({}, {"tokenizer_digest": "other"}, "tokenizer_digest"),
        ({}, {"template_digest": "other"}, "template_digest"),
    ],
)
def test_what_rules_an_adapter_out_is_named(config: dict[str, object], origin: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        checked(config, origin)
    assert refused.value.field == field


@pytest.mark.parametrize("unsafe", ["adapter_model.bin", "model.pkl", "modeling.py", "run.sh"])
def test_a_file_that_a_loader_might_execute_is_refused(unsafe: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        check_files([*FILES, unsafe])
    assert refused.value.field == unsafe


@pytest.mark.parametrize(
    "tensors",
    [
        {},
        {A: (8, 64)},
        {A: (4, 64), B: (32, 4)},
        {A: (8, 48), B: (32, 8)},
        {A: (8, 64), B: (64, 8)},
        {A: (8, 64), B: (32, 8), "base_model.model.lm_head.weight": (9, 64)},
        {A.replace("q_proj", "v_proj"): (8, 64)},
        {A.replace("layers.0", "layers.7"): (8, 64), B.replace("layers.0", "layers.7"): (32, 8)},
    ],
)
def test_tensors_that_do_not_fit_the_base_are_refused(tensors: dict[str, tuple[int, ...]]) -> None:
    with pytest.raises(InvalidInput):
        check_shapes(AdapterDescription(8, frozenset({"q_proj"})), tensors, WEIGHTS)


def test_only_adapters_of_this_base_are_wanted_and_users_come_first() -> None:
    wanted = wanted_versions(
        [
            route("b", arm(1, Role.SHADOW, "d1"), arm(2, Role.STABLE, "d2"), arm(0, Role.PREVIOUS, BASE)),
            route("a", arm(3, Role.CANDIDATE, "d2"), arm(4, Role.STABLE, "d4", base="sha256:elsewhere")),
        ],
        BASE,
    )
    assert [(each.digest, each.role) for each in wanted] == [("d2", Role.STABLE), ("d1", Role.SHADOW)]


def test_one_slot_is_never_pinned() -> None:
    wanted = [Wanted(f"d{n}", f"d{n}", "default", "t", Role.STABLE) for n in range(5)]
    assert choose_pins(wanted, {each.digest: False for each in wanted}, max_loras=3) == ["d0", "d1"]
    assert choose_pins(wanted, {"d0": True, "d1": True, "d2": False}, max_loras=3) == []


def test_a_candidate_is_never_pinned() -> None:
    assert choose_pins([Wanted("d", "d", "default", "t", Role.CANDIDATE)], {"d": False}, max_loras=8) == []


def test_numbers_are_never_given_twice() -> None:
    residency = Residency(BASE)
    assert [residency.next_number() for _ in range(3)] == [1, 2, 3]


def test_a_withdrawn_version_takes_no_new_request_and_keeps_the_running_one() -> None:
    residency = Residency(BASE)
    residency.admit(Version("d", "d", "t@d", residency.next_number(), "/cas/d"))
    with residency.use("d") as version:
        residency.withdraw("d")
        assert version.name == "t@d"
        assert not residency.idle("d")
        with pytest.raises(FailedPrecondition), residency.use("d"):
            pass
    assert residency.idle("d")
