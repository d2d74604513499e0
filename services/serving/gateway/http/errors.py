"""The error tree in the shape that OpenAI's clients read."""

from starlette.responses import Response

from libs.contracts.errors import PawlError, Transient
from services.serving.gateway.http.exchange import json_response

RETRY_AFTER_SECONDS = 1
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def error_of(failure: PawlError) -> dict[str, object]:
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


def response_of(failure: PawlError) -> Response:
    """The response for a failed request; what may be tried again says when."""
    headers: dict[str, str] = {}
    if isinstance(failure, Transient):
        headers["retry-after"] = failure.metadata.get("retry_after", str(RETRY_AFTER_SECONDS))
    return json_response(error_of(failure), failure.http_status, headers)
