"""Routes of the HTTP door: translate only."""

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import asdict
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from libs.contracts.errors import InvalidInput, NotFound, PawlError, Transient
from libs.contracts.routes import ApiKey
from libs.telemetry import get_logger, span
from services.ingestion.domain.imports import ImportRequest, Progress
from services.ingestion.store.imports import BadRow, ImportRecord

log = get_logger(__name__)

_OPTIONS = ("task", "name", "format", "shape", "source", "ticket", "uri")
_COLUMN = "column."
_CLIENT_CLOSED = 499

RunImport = Callable[[ImportRequest, AsyncIterator[bytes]], Awaitable[ImportRecord]]
_Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class ImportDoor:
    """`POST /v1/imports?task=...`: the body is the file, or `uri` names one; the query holds what is said of it.

    Each function of the constructor is one question: who asks (by the authorization header), run this import, the
    object at this URI, this import with its first bad rows, its whole quarantine, how far has this ticket come.
    """

    def __init__(
        self,
        *,
        caller: Callable[[str], ApiKey],
        run: RunImport,
        fetch: Callable[[str], AsyncIterator[bytes]],
        find: Callable[[str, str], Awaitable[tuple[ImportRecord, list[BadRow]]]],
        quarantine: Callable[[str, str], AsyncIterator[bytes]],
        progress: Callable[[str, str], Progress | None],
    ) -> None:
        self._caller = caller
        self._run = run
        self._fetch = fetch
        self._find = find
        self._quarantine = quarantine
        self._progress = progress
        self.app = Starlette(
            routes=[
                Route("/v1/imports", self._guarded(self._import), methods=["POST"]),
                Route("/v1/imports/progress/{ticket}", self._guarded(self._far)),
                Route("/v1/imports/{import_id}", self._guarded(self._get)),
                Route("/v1/imports/{import_id}/quarantine", self._guarded(self._aside)),
            ],
            exception_handlers={404: _no_such_page, 405: _no_such_page},
        )

    def _guarded(self, handler: _Handler) -> _Handler:
        async def endpoint(request: Request) -> Response:
            with span(f"http {request.url.path}", parent=request.headers.get("traceparent")):
                try:
                    return await handler(request)
                except PawlError as failure:
                    return _refused(failure)
                except ClientDisconnect:
                    return Response(status_code=_CLIENT_CLOSED)
                except Exception:  # process boundary: the caller learns no more than that it is our fault
                    log.exception("request failed", path=request.url.path)
                    return _refused(PawlError("internal error"))

        return endpoint

    async def _import(self, request: Request) -> Response:
        key = self._key(request)
        given = dict(request.query_params)
        columns = {name.removeprefix(_COLUMN): given.pop(name) for name in list(given) if name.startswith(_COLUMN)}
        unknown = sorted(given.keys() - set(_OPTIONS))
        if unknown:
            raise InvalidInput(f"is not one of {', '.join(_OPTIONS)} or {_COLUMN}<field>", field=unknown[0])
        uri = given.pop("uri", "")
        given.setdefault("name", uri.rpartition("/")[2])
        if not given.get("task"):
            raise InvalidInput("name the task: ?task=...", field="task")
        asked = ImportRequest(tenant=key.tenant, columns=columns, **given)
        record = await self._run(asked, self._fetch(uri) if uri else _body(request))
        found, bad = await self._find(key.tenant, record.import_id)
        return JSONResponse(_told(record, bad) | {"watermark": found.watermark}, status_code=201)

    async def _get(self, request: Request) -> Response:
        key = self._key(request)
        return JSONResponse(_told(*await self._find(key.tenant, request.path_params["import_id"])))

    async def _aside(self, request: Request) -> Response:
        key = self._key(request)
        import_id = request.path_params["import_id"]
        await self._find(key.tenant, import_id)
        name = f'attachment; filename="{import_id}.quarantine.jsonl"'
        rows = self._quarantine(key.tenant, import_id)
        return StreamingResponse(rows, media_type="application/jsonl", headers={"content-disposition": name})

    async def _far(self, request: Request) -> Response:
        key = self._key(request)
        told = self._progress(key.tenant, request.path_params["ticket"])
        if told is None:
            raise NotFound("no import is known by this ticket", field="ticket")
        return JSONResponse(asdict(told))

    def _key(self, request: Request) -> ApiKey:
        return self._caller(request.headers.get("authorization", ""))


async def _body(request: Request) -> AsyncIterator[bytes]:
    # curl calls whatever it sends by --data-binary a form, so that the other kind of form is a file like any.
    if request.headers.get("content-type", "").startswith("multipart/"):
        raise InvalidInput("send the file itself as the body, not a form (curl --data-binary @FILE)", field="body")
    async for chunk in request.stream():
        if chunk:
            yield chunk


def _told(record: ImportRecord, bad: list[BadRow]) -> dict[str, Any]:
    return {
        "import_id": record.import_id, "task": record.task, "name": record.name, "format": record.format,
        "shape": record.shape, "state": record.state, "rows": record.rows, "accepted": record.accepted,
        "quarantined": record.quarantined, "already_seen": record.already_seen, "watermark": record.watermark,
        "quarantine_digest": record.quarantine, "unread": list(record.unread),
        "quarantine": [{"row": each.row, "field": each.field, "reason": each.reason} for each in bad],
    }  # fmt: skip


def _refused(failure: PawlError) -> Response:
    body = {
        "error": {
            "message": f"{failure.field}: {failure.message}" if failure.field else failure.message,
            "field": failure.field,
            "code": failure.reason.lower(),
            **failure.metadata,
        }
    }
    headers = {"retry-after": "1"} if isinstance(failure, Transient) else {}
    return JSONResponse(body, status_code=failure.http_status, headers=headers)


async def _no_such_page(request: Request, _: Exception) -> Response:
    return _refused(NotFound(f"there is no {request.method} {request.url.path}", reason="UNKNOWN_URL"))
