"""The service as a process, killed while it works: nothing is lost and nothing counts twice."""

from pathlib import Path

import pytest

from bench.intake_chaos import run


@pytest.mark.slow
async def test_feedback_survives_kills_of_the_service_and_the_broker(tmp_path: Path) -> None:
    told = await run(1500, 3, tmp_path, pause=1.5)
    assert told.kills + told.restarts > 0
    assert (told.lost, told.twice, told.outcomes_missing) == (0, 0, 0)
    assert told.kinds == {"correction": 1500}
