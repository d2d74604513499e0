"""The error tree on the wire: `google.rpc.Status` with `ErrorInfo`, and back to the same class."""

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status
from pydantic import ValidationError

from libs.contracts import errors
from libs.contracts.errors import InvalidInput, PawlError, Permanent, Transient

DOMAIN = "pawl"
_CLASS = "pawl-class"
_FIELD = "field"
# In bytes. A status travels in headers, which peers begin to refuse beyond 8 KiB in all, and then all of it is lost;
# the message is in there twice, once percent-encoded and once in base64.
_MAX_MESSAGE = 1024
_MAX_VALUE = 256
_MAX_METADATA = 1024

_CLASSES: dict[str, type[PawlError]] = {
    name: found for name, found in vars(errors).items() if isinstance(found, type) and issubclass(found, PawlError)
}
_BY_CODE: dict[grpc.StatusCode, type[PawlError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidInput,
    grpc.StatusCode.OUT_OF_RANGE: errors.InvalidInput,
    grpc.StatusCode.NOT_FOUND: errors.NotFound,
    grpc.StatusCode.ALREADY_EXISTS: errors.AlreadyExists,
    grpc.StatusCode.FAILED_PRECONDITION: errors.FailedPrecondition,
    grpc.StatusCode.PERMISSION_DENIED: errors.PermissionDenied,
    grpc.StatusCode.UNAUTHENTICATED: errors.Unauthenticated,
    grpc.StatusCode.DATA_LOSS: errors.DataLoss,
    grpc.StatusCode.ABORTED: errors.Conflict,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.Busy,
    grpc.StatusCode.UNAVAILABLE: errors.Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.Unavailable,
    grpc.StatusCode.CANCELLED: errors.Unavailable,
    grpc.StatusCode.UNIMPLEMENTED: Permanent,
}


def from_validation(failure: ValidationError) -> InvalidInput:
    """The first thing that a pydantic model refused, with its path as the field."""
    first = failure.errors(include_url=False, include_input=False)[0]
    message = str(first["msg"]).removeprefix("Value error, ")
    return InvalidInput(message, field=".".join(str(part) for part in first["loc"]) or None)


def to_status(failure: PawlError) -> grpc.Status:
    """The rich status of an error: code of its class, its message, and ErrorInfo with reason, domain and metadata."""
    metadata = {_CLASS: type(failure).__name__}
    if failure.field:
        metadata[_FIELD] = _clip(failure.field, _MAX_VALUE)
    left = _MAX_METADATA
    for name, value in failure.metadata.items():
        left -= len(name.encode()) + min(len(value.encode()), _MAX_VALUE)
        if left < 0:
            break
        metadata[name] = _clip(value, _MAX_VALUE)
    details = [any_pb2.Any()]
    details[0].Pack(error_details_pb2.ErrorInfo(reason=failure.reason, domain=DOMAIN, metadata=metadata))
    if failure.metadata.get("retry_after", "").isdigit():
        # Where clients of other makes look for it.
        delay = duration_pb2.Duration(seconds=int(failure.metadata["retry_after"]))
        details.append(any_pb2.Any())
        details[1].Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    message = _clip(failure.message, _MAX_MESSAGE)
    status = status_pb2.Status(code=failure.grpc_code, message=message, details=details)
    result: grpc.Status = rpc_status.to_status(status)
    return result


def errors_from_rpc(failure: grpc.aio.AioRpcError | grpc.Call) -> PawlError:
    """The error behind a failed call: class, reason, field and metadata it was raised with, where the server is ours.

    A status without our ErrorInfo (a dead peer, a passed deadline, a foreign server) becomes the class of its code.
    """
    info = _error_info(failure)
    message = failure.details() or failure.code().name
    if info is not None:
        metadata = dict(info.metadata)
        kind = _CLASSES.get(metadata.pop(_CLASS, ""), _BY_CODE.get(failure.code(), PawlError))
        field = metadata.pop(_FIELD, None)
        error = kind(message, reason=info.reason, field=field)
        error.metadata.update(metadata)
        return error
    reason = "DEADLINE_EXCEEDED" if failure.code() is grpc.StatusCode.DEADLINE_EXCEEDED else None
    if failure.code() is grpc.StatusCode.UNIMPLEMENTED:
        reason = "UNIMPLEMENTED"
    return _BY_CODE.get(failure.code(), Transient)(message, reason=reason)


def code_name(failure: BaseException | None) -> str:
    """The status code name for metrics, e.g. `OK` or `NOT_FOUND`."""
    if failure is None:
        return "OK"
    if isinstance(failure, PawlError):
        return str(code_pb2.Code.Name(failure.grpc_code))
    return "CANCELLED" if isinstance(failure, BaseException) and not isinstance(failure, Exception) else "INTERNAL"


def _clip(text: str, limit: int) -> str:
    encoded = text.encode()
    return text if len(encoded) <= limit else encoded[: max(limit - 3, 0)].decode(errors="ignore") + "…"


def _error_info(failure: grpc.aio.AioRpcError | grpc.Call) -> error_details_pb2.ErrorInfo | None:
    for key, value in failure.trailing_metadata() or ():
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            try:
                details = status_pb2.Status.FromString(value).details
                for detail in details:
                    info = error_details_pb2.ErrorInfo()
                    if detail.Unpack(info) and info.domain == DOMAIN:
                        return info
            except DecodeError:
                return None  # whoever wrote this is no server of ours; the code and the message still count
    return None
