"""The one error tree: retry policy, gRPC code and HTTP status key on the class.

PawlError
├── Transient                 try again later: nothing is wrong with the request
│   ├── Unavailable           a dependency is away
│   ├── Conflict              somebody else won a compare-and-set
│   ├── Busy                  admission refused: too much in flight
│   └── ResourceExhausted     disk, memory or quota is full
└── Permanent                 the same request will fail the same way
    ├── InvalidInput          malformed or out of range; `field` names the place
    ├── NotFound
    ├── AlreadyExists
    ├── FailedPrecondition    right request, wrong state
    ├── PermissionDenied
    ├── Unauthenticated
    ├── DataLoss              bytes do not match their digest
    └── StaleEpoch            a newer attempt holds the job
"""

from typing import ClassVar


class PawlError(Exception):
    """Root of the tree; `reason` is a stable upper-snake word that clients may switch on."""

    grpc_code: ClassVar[int] = 13  # INTERNAL
    http_status: ClassVar[int] = 500
    default_reason: ClassVar[str] = "INTERNAL"

    def __init__(
        self, message: str, *, reason: str | None = None, field: str | None = None, **metadata: object
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.default_reason
        self.field = field
        self.metadata = {name: str(value) for name, value in metadata.items()}


class Transient(PawlError):
    """Try again later; nothing is wrong with the request."""

    grpc_code = 14  # UNAVAILABLE
    http_status = 503
    default_reason = "UNAVAILABLE"


class Unavailable(Transient):
    """A dependency is away."""


class Conflict(Transient):
    """Somebody else won a compare-and-set; read again and decide again."""

    grpc_code = 10  # ABORTED
    http_status = 409
    default_reason = "CONFLICT"


class Busy(Transient):
    """Admission refused: too much is in flight already."""

    grpc_code = 8  # RESOURCE_EXHAUSTED
    http_status = 429
    default_reason = "BUSY"


class ResourceExhausted(Transient):
    """Disk, memory or a quota is full."""

    grpc_code = 8
    http_status = 507
    default_reason = "RESOURCE_EXHAUSTED"


class Permanent(PawlError):
    """The same request will fail the same way."""

    grpc_code = 9  # FAILED_PRECONDITION
    http_status = 422
    default_reason = "PERMANENT"


class InvalidInput(Permanent):
    """Malformed or out of range; `field` names the place."""

    grpc_code = 3  # INVALID_ARGUMENT
    http_status = 400
    default_reason = "INVALID_INPUT"


class NotFound(Permanent):
    """No such thing."""

    grpc_code = 5  # NOT_FOUND
    http_status = 404
    default_reason = "NOT_FOUND"


class AlreadyExists(Permanent):
    """The name is taken by something else."""

    grpc_code = 6  # ALREADY_EXISTS
    http_status = 409
    default_reason = "ALREADY_EXISTS"


class FailedPrecondition(Permanent):
    """The right request in the wrong state."""

    http_status = 412
    default_reason = "FAILED_PRECONDITION"


class PermissionDenied(Permanent):
    """Known caller, not allowed."""

    grpc_code = 7  # PERMISSION_DENIED
    http_status = 403
    default_reason = "PERMISSION_DENIED"


class Unauthenticated(Permanent):
    """Unknown caller."""

    grpc_code = 16  # UNAUTHENTICATED
    http_status = 401
    default_reason = "UNAUTHENTICATED"


class DataLoss(Permanent):
    """Bytes do not match their digest."""

    grpc_code = 15  # DATA_LOSS
    http_status = 500
    default_reason = "DATA_LOSS"


class StaleEpoch(Permanent):
    """A newer attempt holds the job; this one may commit nothing."""

    grpc_code = 10  # ABORTED
    http_status = 409
    default_reason = "STALE_EPOCH"
