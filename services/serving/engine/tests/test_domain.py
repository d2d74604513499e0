"""What an engine decides, without an engine."""

from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.contracts.errors import Busy, FailedPrecondition, InvalidInput
from libs.contracts.inference import Role
from libs.contracts.routes import Arm, Route
from services.serving.engine.domain import (
    FETCHING,
    LOADING,
    SMOKE,
    VERIFYING,
    AdapterDescription,
    Coalescer,
    ColdBudget,
    Meter,
    Occupant,
    Piece,
    Residency,
    Share,
    Version,
    Wanted,
    check_files,
    check_metadata,
    check_shapes,
    choose_pins,
    choose_unpin,
    wanted_versions,
    who_leaves,
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
    wanted = [Wanted(f"d{n}", f"d{n}", "default", "t", Role.STABLE) for n in range(3)]
    assert choose_pins(wanted, {each.digest: False for each in wanted}, max_loras=3) == ["d0", "d1"]
    assert choose_pins(wanted, {"d0": True, "d1": True, "d2": False}, max_loras=3) == []


def test_one_adapter_past_the_slots_leaves_half_of_them_to_take_turns_in() -> None:
    wanted = [Wanted(f"d{n}", f"d{n}", "default", "t", Role.STABLE) for n in range(9)]
    pinned = {each.digest: False for each in wanted}
    assert choose_pins(wanted[:8], pinned, max_loras=8) == [f"d{n}" for n in range(7)]
    assert choose_pins(wanted, pinned, max_loras=8) == [f"d{n}" for n in range(4)]
    held = {f"d{n}": n < 7 for n in range(9)}
    assert choose_unpin(wanted[:8], held, max_loras=8) is None
    assert choose_unpin(wanted, held, max_loras=8) == "d6"


def test_a_version_without_users_makes_room_before_one_with_users_and_a_pinned_or_busy_one_never() -> None:
    shadow = Occupant("shadow", Role.SHADOW, pinned=False, idle=True, used_at=9.0)
    old = Occupant("old", Role.STABLE, pinned=False, idle=True, used_at=1.0)
    new = Occupant("new", Role.STABLE, pinned=False, idle=True, used_at=2.0)
    pinned = Occupant("pinned", Role.STABLE, pinned=True, idle=True, used_at=0.0)
    busy = Occupant("busy", Role.SHADOW, pinned=False, idle=False, used_at=0.0)
    assert who_leaves([new, old, shadow, pinned, busy]) == "shadow"
    assert who_leaves([new, old, pinned, busy]) == "old"
    assert who_leaves([pinned, busy]) is None


def test_loads_on_request_have_a_budget_a_minute_and_say_when_to_come_back() -> None:
    budget = ColdBudget(2)
    budget.spend(0.0)
    budget.spend(10.0)
    with pytest.raises(Busy) as refused:
        budget.spend(20.0)
    assert refused.value.metadata["retry_after"] == "40"
    budget.spend(60.0)


@given(st.lists(st.tuples(st.floats(0.01, 5), st.integers(0, 4)), min_size=1, max_size=40))
def test_the_shares_of_all_requests_are_the_time_in_which_any_of_them_ran(steps: list[tuple[float, int]]) -> None:
    now, busy = 0.0, 0.0
    meter = Meter(clock=lambda: now)
    stacks: dict[int, ExitStack] = {}
    shares: list[Share] = []
    charged = 0.0
    for seconds, who in steps:
        if who in stacks:
            charged += shares[who].seconds if who < len(shares) else 0.0
            stacks.pop(who).close()
        elif who == len(shares):
            stacks[who] = ExitStack()
            shares.append(stacks[who].enter_context(meter.run()))
        if stacks:
            busy += seconds
        now += seconds
    charged += sum(shares[who].seconds for who in stacks)
    assert charged == pytest.approx(busy)


@given(
    texts=st.lists(st.text(max_size=3), min_size=1, max_size=30),
    gaps=st.lists(st.floats(0, 0.2), min_size=30, max_size=30),
    window=st.sampled_from([0.0, 0.05, 1.0]),
)
def test_pieces_that_travel_together_say_the_same_and_the_first_and_the_last_do_not_wait(
    texts: list[str], gaps: list[float], window: float
) -> None:
    now = 0.0
    coalescer = Coalescer(lambda: window, lambda: now)
    sent: list[Piece] = []
    for number, (text, gap) in enumerate(zip(texts, gaps, strict=False)):
        now += gap
        for index in (0, 1):
            last = number == len(texts) - 1
            piece = coalescer.feed(Piece(text, (number,), index=index, finish_reason="stop" if last else ""))
            if number == 0 or last or window == 0.0:
                assert piece is not None
            sent += [piece] if piece is not None else []
    for index in (0, 1):
        mine = [each for each in sent if each.index == index]
        assert "".join(each.text for each in mine) == "".join(texts)
        assert [token for each in mine for token in each.token_ids] == list(range(len(texts)))


def test_a_candidate_is_never_pinned() -> None:
    assert choose_pins([Wanted("d", "d", "default", "t", Role.CANDIDATE)], {"d": False}, max_loras=8) == []


def test_a_version_on_its_way_in_says_how_far_it_has_come() -> None:
    residency = Residency(BASE)

    def states() -> dict[str, str]:
        return {each.digest: each.state for each in residency.standings()}

    with residency.arrival("d") as enter:
        for state in (FETCHING, VERIFYING, LOADING, SMOKE):
            enter(state)
            assert states() == {BASE: "routable", "d": state}
    assert states() == {BASE: "routable"}


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
