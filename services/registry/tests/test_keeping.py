"""Buckets are kept true to the database, and keys to their file."""

import hashlib
import json
from pathlib import Path

import pytest

from libs.contracts.errors import InvalidInput
from libs.contracts.routes import ApiKey
from libs.contracts.subjects import KEYS, ROUTES, RULES, TASKS
from libs.contracts.task.routing import RoutingRules
from libs.eventing.apply import apply
from libs.eventing.connection import NatsLink
from libs.eventing.kv import Entry, kv_get, kv_put, kv_stream
from services.registry import workflows
from services.registry.store.reading import decisions_of
from services.registry.tests.house import House
from services.registry.workflows import Keeper, read_keys, read_rules

HASH = hashlib.sha256(b"secret").hexdigest()


def keys(*entries: object) -> str:
    return json.dumps([{"name": "shop", "key_hash": HASH, "tenant": "default", "roles": ["client"]}, *entries])


async def key(house: House) -> ApiKey | None:
    entry = await kv_get(house.link, KEYS, HASH)
    return ApiKey.model_validate_json(entry.value) if entry.value else None


async def test_buckets_that_lost_everything_get_the_same_route_and_task_back(house: House) -> None:
    await house.apply()
    await house.apply(system="Be brief.")
    before = await house.until_route(lambda route: route.generation == 2)
    for bucket in (ROUTES, TASKS):
        await house.link.js.delete_stream(kv_stream(bucket))
    await apply(house.link.js)
    assert await house.route() is None
    await Keeper(house.store, house.link, None).mend()
    assert await house.route() == before
    assert (await kv_get(house.link, TASKS, "default.triage")).generation == 2


async def test_what_the_buckets_still_hold_is_not_written_again(house: House) -> None:
    await house.apply()
    await house.until_route(lambda route: route.generation == 1)
    revision = (await kv_get(house.link, ROUTES, "default.triage")).revision
    await Keeper(house.store, house.link, None).mend()
    assert (await kv_get(house.link, ROUTES, "default.triage")).revision == revision


async def test_a_database_older_than_the_bucket_catches_up_and_stays_in_charge(house: House) -> None:
    await house.apply()
    route = await house.until_route(lambda route: route.generation == 1)
    # As after restoring a backup: the bucket has seen generations that the database knows nothing of.
    lost = route.model_copy(update={"generation": 41, "system": "from the lost future"})
    await kv_put(house.link, ROUTES, "default.triage", lost, generation=41)
    await Keeper(house.store, house.link, None).mend()
    route = await house.until_route(lambda route: route.generation == 42)
    assert route.system == ""
    await house.apply(system="Be yourself.")
    route = await house.until_route(lambda route: route.generation == 43)
    assert route.system == "Be yourself."


async def test_a_task_decided_while_the_buckets_are_read_is_no_lost_future(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.apply()
    await house.until_route(lambda route: route.generation == 1)
    decided: list[str] = []

    async def late(link: NatsLink, bucket: str, name: str) -> Entry:
        if not decided:
            decided.append(name)
            await house.apply(system="Be brief.")
            await house.until_route(lambda route: route.generation == 2)
        return await kv_get(link, bucket, name)

    monkeypatch.setattr(workflows, "kv_get", late)
    await Keeper(house.store, house.link, None).mend()
    async with house.store.reading() as session:
        audit = [entry.action for entry in await decisions_of(session, "default", "triage")]
    assert decided
    assert "numbers_raised" not in audit
    assert (await house.task()).generation == 2


async def test_keys_follow_their_file(house: House, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    file.write_text(keys())
    keeper = Keeper(house.store, house.link, file)
    await keeper.follow_keys()
    found = await key(house)
    assert found is not None
    assert (found.name, found.roles) == ("shop", ("client",))
    file.write_text("[]")
    await keeper.follow_keys()
    assert await key(house) is None
    file.write_text(keys())
    await keeper.follow_keys()
    assert await key(house) is not None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[{]", ":1: not JSON"),
        ('[{"name": "shop"}]', "entry 0.key_hash"),
        (keys({"name": "x", "key_hash": "abc", "tenant": "default", "roles": []}), "entry 1.key_hash: must be 64 hex"),
        (keys({"name": "x", "key_hash": HASH, "tenant": "default", "roles": ["root"]}), "entry 1.roles.0"),
    ],
)
def test_a_wrong_keys_file_is_named_with_its_entry(tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "keys.json"
    file.write_text(content)
    with pytest.raises(InvalidInput) as refused:
        read_keys(file)
    assert "keys.json" in str(refused.value)
    assert said in str(refused.value)


async def test_a_missing_keys_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="No such file"):
        read_keys(tmp_path / "keys.json")


RULES_FILE = """
rules:
  - name: beta clinics
    when: {segment: [clinics], task_type: [triage]}
    to: triage-beta
"""


async def test_routing_rules_follow_their_file_and_go_with_it(house: House, tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(RULES_FILE)
    keeper = Keeper(house.store, house.link, None, file)
    await keeper.follow_rules()
    held = RoutingRules.model_validate_json((await kv_get(house.link, RULES, "default")).value or b"")
    assert [rule.to for rule in held.rules] == ["triage-beta"]
    file.write_text("")
    await keeper.follow_rules()
    assert (await kv_get(house.link, RULES, "default")).value is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("rules: [", "not YAML"),
        ("rules: [{name: a, to: UPPER}]", "rules.0.to"),
        ("rules: [{name: a, to: t, when: {colour: [red]}}]", "when.colour"),
        ("rules: [{name: a, to: t}, {name: a, to: u}]", "two rules are called 'a'"),
        ("rules: []\n---\nrules: []", "two documents"),
    ],
)
def test_a_rule_that_cannot_be_meant_names_its_place(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(text)
    with pytest.raises(InvalidInput, match=told):
        read_rules(file)
