"""The error tree in the shape that OpenAI's clients read."""

from starlette.responses import JSONResponse, Response

from libs.contracts.errors import PawlError, Transient

RETRY_AFTER_SECONDS = 1
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def body_of(failure: PawlError) -> dict[str, object]:
    """`{"error": {...}}`; `param` names the field and `code` is the stable reason, in lower case."""
    status = failure.http_status
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {
        "error": {
            "message": f"{failure.field}: {failure.message}" if failure.field else failure.message,
            "type": kind,
            "param": failure.field,
            "code": failure.reason.lower(),
        }
    }


def response_of(failure: PawlError, headers: dict[str, str] | None = None) -> Response:
    """The response for a failed request; what may be tried again says when."""
    extra = dict(headers or {})
    if isinstance(failure, Transient):
        extra["retry-after"] = failure.metadata.get("retry_after", str(RETRY_AFTER_SECONDS))
    return JSONResponse(body_of(failure), status_code=failure.http_status, headers=extra)
