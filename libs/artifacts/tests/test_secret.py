"""The secret of a tenant: made once, the same for every process, never among the tenant's objects."""

import asyncio

import pytest
from pydantic import SecretStr

from libs.artifacts import ObjectStore, TenantSecrets
from libs.contracts.errors import DataLoss, NotFound


async def test_the_first_who_asks_makes_it_and_everybody_has_the_same(object_store: ObjectStore) -> None:
    processes = [TenantSecrets(object_store.for_tenant, SecretStr(""), settled=0.5) for _ in range(4)]
    found = await asyncio.gather(*(each.of("default") for each in processes))
    assert len(set(found)) == 1
    assert len(found[0]) == 32
    later = TenantSecrets(object_store.for_tenant, SecretStr(""))
    assert await later.of("default") == found[0]
    assert await later.of("acme") != found[0]
    assert [each async for each in object_store.list_objects()] == []


async def test_a_configured_secret_stands_and_nothing_is_kept(object_store: ObjectStore) -> None:
    secrets = TenantSecrets(object_store.for_tenant, SecretStr("s" * 32))
    assert await secrets.of("default") == b"s" * 32
    assert await object_store.get_secret() is None


async def test_a_damaged_secret_is_told_and_never_replaced(object_store: ObjectStore) -> None:
    await object_store.offer_secret(b"short")
    with pytest.raises(DataLoss, match="secret is damaged"):
        await TenantSecrets(object_store.for_tenant, SecretStr("")).of("default")
    assert await object_store.get_secret() == b"short"


async def test_without_a_bucket_there_is_no_secret(object_store: ObjectStore) -> None:
    elsewhere = object_store.for_tenant("default")
    elsewhere.__dict__["_bucket"] = "no-such-bucket"
    elsewhere._transfers.__dict__["_bucket"] = "no-such-bucket"
    with pytest.raises(NotFound, match="no bucket"):
        await TenantSecrets(elsewhere.for_tenant, SecretStr("")).of("default")
