"""What is decided about a run's attempts."""

from services.trainer.domain.runs import crash_pause, describe_exit, manifest


def test_a_first_crash_is_retried_at_once_and_later_ones_wait_longer() -> None:
    assert [crash_pause(count) for count in (1, 2, 3, 4)] == [0.0, 2.0, 4.0, 8.0]
    assert crash_pause(50) == 20.0


def test_a_death_by_signal_names_it_and_one_for_memory_says_what_to_do() -> None:
    assert describe_exit(-9, False, "") == "TRAINING_PROCESS_DIED: the training process was killed by signal 9"
    assert describe_exit(1, False, "boom").endswith("ended with status 1: boom")
    assert "lower recipe.max_length" in describe_exit(-9, True, "")


def test_a_run_manifest_holds_inputs_and_nothing_of_the_occasion() -> None:
    described = manifest(
        base_digest="b", dataset_digest="d", continue_from="", recipe={"seed": 3}, plan_digest="p", lock_digest="l",
        code_digest="c", environment={"device": "cpu"},
    )  # fmt: skip
    assert described["seed"] == 3
    assert described["device"] == "cpu"
    assert not {"run_id", "turn_id", "time"} & described.keys()
