"""A user has one name wherever something is kept of him, so that one erasure finds all of it."""

from services.curation.workflows.erasing import hash_of
from services.ingestion.domain.rows import hashed_user
from services.serving.gateway.domain import unit_of


def test_serving_logs_a_user_under_the_name_that_ingestion_keeps_and_curation_erases() -> None:
    unit = unit_of("acme", "ann", "r")
    assert hashed_user("acme", unit) == hashed_user("acme", "ann") == hash_of("acme", "ann") == unit
    assert hash_of("acme", unit) == unit
    assert unit_of("other", "ann", "r") != unit
