"""Plans: parts add up, what does not fit is said with what would help, earlier runs narrow the next plan."""

from typing import Any

import pytest

from libs.contracts.errors import InvalidInput
from libs.contracts.task import recipe_of
from services.trainer.domain.devices import DEVICES, GIB, Device, recognised
from services.trainer.domain.forecast import Prices, beside, calibrate, forecast, prices_of
from services.trainer.domain.protocol import Surveyed
from services.trainer.domain.reproduction import differences, verdict

SEEN = Surveyed(
    rows=1000, too_long=3, skipped=0, mean_tokens=400, longest_tokens=2000, trained_share=0.3, total_steps=188,
    tokens=1_200_000, padded_tokens=1_500_000, parameters=8_000_000_000, trainable_parameters=42_000_000,
    memory={
        "weights": 16 * GIB, "adapter": GIB // 6, "gradients": GIB // 6, "optimizer": GIB // 3, "activations": 20 * GIB,
        "saving": GIB // 3,
    },
    mask=(), baseline_bytes=GIB // 2, memory_total=24 * GIB, peak_flops=1e12, environment={"device": "cpu"},
)  # fmt: skip
NOTHING = Prices()
HERE = Device("cpu-x", 24 * GIB, 1e12, 16.0, 0, "cpu")


def plan(device: Device = HERE, history: Any = (), prices: Prices = NOTHING, **recipe: Any) -> dict[str, Any]:
    return forecast(SEEN, recipe_of(batch_size=16, **recipe), device, calibrate(history), prices)


def test_the_peak_is_the_sum_of_what_is_held_at_once() -> None:
    memory = plan()["memory"]
    parts = ("weights", "adapter", "optimizer", "gradients", "activations", "slack", "overhead", "runtime")
    assert memory["peak"] == sum(memory[part] for part in parts)
    assert memory["overhead"] == SEEN.baseline_bytes


def test_what_does_not_fit_comes_with_a_batch_that_does() -> None:
    made = plan()
    assert not made["fits"]
    assert made["suggestions"][0] == "batch_size 4 with gradient_accumulation 4: the same result"
    assert any("qlora" in each for each in made["suggestions"])
    assert plan(DEVICES["H100"])["fits"]
    assert plan(DEVICES["H100"])["suggestions"] == []


def test_a_full_fine_tune_that_does_not_fit_is_pointed_to_lora() -> None:
    assert any("method lora" in each for each in plan(method="full")["suggestions"])


def test_hours_energy_price_and_pay_back_follow_from_the_tables() -> None:
    prices = prices_of(
        {"currency": "EUR", "devices": {"H100": 3.0}, "managed_per_million_tokens": 0.5, "incumbent_per_request": 0.002}
    )
    made = plan(DEVICES["H100"], prices=prices)
    seconds = 1_200_000 * 4 * 8e9 / (0.35 * 989e12)
    assert made["seconds"] == pytest.approx(seconds, abs=0.1)
    assert made["kwh"] == pytest.approx(seconds / 3600 * 0.7, rel=1e-3)
    assert made["price"] == pytest.approx(3.0 * seconds / 3600, rel=1e-3)
    assert made["managed_price"] == pytest.approx(0.6)
    assert made["pay_back_requests"] == -(-made["price"] // 0.002)
    with pytest.raises(InvalidInput, match="unknown key 'device'"):
        prices_of({"device": {}})


def test_earlier_runs_on_the_device_correct_speed_and_memory() -> None:
    first = plan()
    memory = first["memory"]
    fixed = memory["overhead"] + memory["runtime"] + memory["weights"] + memory["adapter"] + memory["optimizer"]
    in_step = memory["gradients"] + memory["activations"]
    actual = {"device": "cpu-x", "mfu": 0.2, "peak_memory_bytes": fixed + int(1.25 * in_step), "split": 1}
    again = plan(history=[{"plan": first, "actual": actual}])
    assert again["calibrated_by"] == 1
    assert again["seconds"] == pytest.approx(first["seconds"] / 2, rel=1e-3)
    assert again["memory"]["peak"] == pytest.approx(actual["peak_memory_bytes"], rel=1e-3)
    other = plan(DEVICES["A100"], history=[{"plan": first, "actual": actual}])
    assert other["calibrated_by"] == 0


@pytest.mark.parametrize(
    ("told", "name"),
    [
        ("NVIDIA A100-SXM4-80GB", "A100-80"),
        ("NVIDIA A100 80GB PCIe", "A100-80"),
        ("NVIDIA A100-SXM4-40GB", "A100"),
        ("NVIDIA A10G", "A10"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA L4", "L4"),
        ("Tesla T4", "T4"),
        ("NVIDIA GeForce RTX 4090", "RTX4090"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA GH200 480GB", None),
        ("NVIDIA RTX A1000", None),
        *((name, name) for name in DEVICES),
    ],
)
def test_a_device_is_known_by_what_its_driver_calls_it_and_no_other_is_taken_for_it(told: str, name: str) -> None:
    found = recognised(told)
    assert (found.name if found else None) == name


def test_a_price_and_what_runs_taught_hold_for_a_device_however_it_is_called() -> None:
    prices = prices_of({"devices": {"A10": 1.0, "A100": 2.0, "A100-80": 4.0}})
    driver = Device("NVIDIA A100-SXM4-80GB", 80 * GIB, 312e12, 400, GIB)
    actual = {"device": "NVIDIA A100-SXM4-80GB", "mfu": 0.5, "peak_memory_bytes": 0}
    for device in (driver, DEVICES["A100-80"]):
        made = plan(device, prices=prices, history=[{"plan": {}, "actual": actual}])
        assert (made["mfu"], made["calibrated_by"]) == (0.5, 1)
        assert made["price"] == pytest.approx(4.0 * made["seconds"] / 3600, rel=1e-3)


def test_estimate_and_actual_lie_side_by_side() -> None:
    rows = beside({"steps": 188, "seconds": 110.0}, {"steps": 188, "seconds": 100.0})
    assert {row["what"]: row["off"] for row in rows} == {"steps": 0.0, "seconds": 0.1}


def test_a_run_made_again_that_differs_names_what_changed_the_weightiest_first() -> None:
    changed = differences({"cpu": "a", "threads": "1", "code": "x"}, {"cpu": "b", "threads": "2", "code": "x"})
    assert changed == ["the processor was a and is b", "threads was 1 and is 2"]
    assert verdict([], []) == (True, "the same bytes")
    same, why = verdict(["adapter_model.safetensors"], changed)
    assert not same
    assert "the processor was a and is b" in why
    assert "defect" in verdict(["adapter_model.safetensors"], [])[1]
