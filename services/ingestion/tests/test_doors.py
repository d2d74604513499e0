"""A file comes in by any door, or lies in a bucket already; whoever may not import is told so."""

import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from pydantic import SecretStr

from libs.contracts.errors import InvalidInput, NotFound, PermissionDenied
from libs.contracts.routes import ApiKey, KeyRole
from libs.contracts.subjects import KEYS
from libs.eventing.kv import kv_put
from libs.testing.servers import S3Server
from libs.testing.wait import eventually
from services.ingestion.app import import_door
from services.ingestion.clients.buckets import Buckets
from services.ingestion.clients.keys import Keys
from services.ingestion.tests.conftest import House

ROWS = b"".join(json.dumps({"input": f"q{at}", "output": "a"}).encode() + b"\n" for at in range(20))
OPERATOR = {"authorization": "Bearer boss"}


@pytest.fixture
def buckets(s3_server: S3Server, house: House) -> Buckets:
    own = house.objects._bucket
    secret = SecretStr(s3_server.secret_key)
    opened = Buckets(s3_server.endpoint, s3_server.access_key, secret, s3_server.region, own=own)
    if not opened._client.bucket_exists("uploads"):
        opened._client.make_bucket("uploads")
    return opened


@pytest_asyncio.fixture
async def door(house: House, buckets: Buckets, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    for secret, roles in (("boss", (KeyRole.OPERATOR,)), ("app", (KeyRole.CLIENT,))):
        digest = hashlib.sha256(secret.encode()).hexdigest()
        await kv_put(house.link, KEYS, digest, ApiKey(key_hash=digest, name=secret, tenant="default", roles=roles))
    keys = Keys(house.link, tmp_path / "keys.json")
    await keys.start()
    await eventually(lambda: len(keys._state.values) == 2)
    app = import_door(house.database, house.objects.for_tenant, house.importer, buckets, keys).app
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://door") as client:
        yield client
    await keys.stop()


async def test_a_file_is_uploaded_over_http_and_its_import_can_be_looked_at(door: httpx.AsyncClient) -> None:
    asked = {"task": "triage", "name": "a.jsonl", "source": "crm"}
    answer = await door.post("/v1/imports", params=asked, content=ROWS + b"{broken", headers=OPERATOR)
    assert answer.status_code == 201, answer.text
    told = answer.json()
    assert (told["accepted"], told["quarantined"], told["format"], told["state"]) == (20, 1, "jsonl", "completed")
    again = (await door.get(f"/v1/imports/{told['import_id']}", headers=OPERATOR)).json()
    assert again == told
    aside = await door.get(f"/v1/imports/{told['import_id']}/quarantine", headers=OPERATOR)
    assert json.loads(aside.text)["raw"] == "{broken"


async def test_what_curl_sends_as_the_guide_says_is_the_file_itself(door: httpx.AsyncClient) -> None:
    asked = {"task": "triage", "name": "a.jsonl"}
    curl = OPERATOR | {"content-type": "application/x-www-form-urlencoded"}
    answer = await door.post("/v1/imports", params=asked, content=ROWS, headers=curl)
    assert (answer.status_code, answer.json()["accepted"]) == (201, 20), answer.text
    parts = await door.post("/v1/imports", params=asked, files={"file": ROWS}, headers=OPERATOR)
    assert (parts.status_code, parts.json()["error"]["field"]) == (400, "body")


async def test_what_is_wrong_over_http_names_its_place(door: httpx.AsyncClient) -> None:
    for asked, status, field in (
        ({"name": "a.jsonl"}, 400, "task"),
        ({"task": "nobody", "name": "a.jsonl"}, 404, "task"),
        ({"task": "triage", "name": "a.jsonl", "sorce": "x"}, 400, "sorce"),
        ({"task": "triage", "uri": "s3://nowhere"}, 400, "uri"),
    ):
        answer = await door.post("/v1/imports", params=asked, content=ROWS, headers=OPERATOR)
        assert (answer.status_code, answer.json()["error"]["field"]) == (status, field)
    for headers, status in (({}, 401), ({"authorization": "Bearer no"}, 401), ({"authorization": "Bearer app"}, 403)):
        assert (await door.post("/v1/imports", params={"task": "triage"}, headers=headers)).status_code == status


async def test_a_file_in_a_bucket_is_imported_by_its_uri(
    house: House, buckets: Buckets, s3_server: S3Server, tmp_path: Path
) -> None:
    (tmp_path / "a.jsonl").write_bytes(ROWS)
    buckets._client.fput_object("uploads", "in/a file.jsonl", str(tmp_path / "a.jsonl"))
    chunks = buckets.stream("s3://uploads/in/a%20file.jsonl")
    assert b"".join([chunk async for chunk in chunks]) == ROWS
    with pytest.raises(NotFound, match="s3://uploads/nothing"):
        await anext(buckets.stream("s3://uploads/nothing"))


def test_an_uri_never_reaches_into_our_own_bucket_or_one_that_is_not_allowed(buckets: Buckets) -> None:
    with pytest.raises(PermissionDenied):
        buckets.locate(f"s3://{buckets._own}/default/ab/abcd")
    buckets._allowed = frozenset({"uploads"})
    with pytest.raises(PermissionDenied, match="they may read uploads"):
        buckets.locate("s3://elsewhere/a.jsonl")
    for wrong in ("http://uploads/a", "s3://uploads", "s3:///a", "s3://uploads/a?versionId=1"):
        with pytest.raises(InvalidInput, match="must look like s3://bucket/key"):
            buckets.locate(wrong)
