"""One S3 client with bounded patience, and its failures in the terms of the error tree."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.error import InvalidResponseError, MinioException, S3Error, ServerError
from urllib3.exceptions import HTTPError

from libs.contracts.errors import (
    AlreadyExists,
    Busy,
    InvalidInput,
    NotFound,
    PawlError,
    Permanent,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)

CONNECT_SECONDS = 3.0
READ_SECONDS = 30.0

_MISSING = frozenset({"NoSuchKey", "NoSuchBucket", "NoSuchObject", "ResourceNotFound", "NoSuchUpload"})
_TAKEN = frozenset({"BucketAlreadyOwnedByYou", "BucketAlreadyExists", "PreconditionFailed"})
_REFUSED = frozenset({"AccessDenied", "AllAccessDisabled"})
_UNKNOWN_CALLER = frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"})
_FULL = frozenset({"XMinioStorageFull", "QuotaExceeded", "InsufficientStorage", "XMinioAdminBucketQuotaExceeded"})
_BUSY = frozenset(
    ("SlowDown", "TooManyRequests", "ServiceUnavailable", "RequestTimeout", "XMinioServerNotInitialized",
     "ConditionalRequestConflict")
)  # fmt: skip


def connect(endpoint: str, access_key: str, secret_key: str, bucket: str, region: str, *, connections: int) -> Minio:
    """A client of the S3 server at `http(s)://host[:port]`; nothing is sent yet. Raises InvalidInput on a bad address.

    The region is given so that the client does not ask the server for it, which small servers answer wrongly.
    """
    address = urlsplit(endpoint)
    if address.scheme not in ("http", "https") or not address.netloc or address.path not in ("", "/"):
        raise InvalidInput(f"{endpoint!r} must look like http://host:port", field="s3_endpoint")
    if address.username or address.password:
        raise InvalidInput("must not hold credentials", field="s3_endpoint")
    if not re.match(r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", bucket):
        raise InvalidInput(f"{bucket!r} must be 3 to 63 lower-case letters, digits, '-' or '.'", field="s3_bucket")
    if not region:
        raise InvalidInput("must not be empty", field="s3_region")
    pool = urllib3.PoolManager(
        timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS),
        maxsize=connections,
        retries=urllib3.Retry(
            total=2, backoff_factor=0.2, status_forcelist=(500, 502, 503, 504), raise_on_status=False
        ),
    )
    return Minio(
        address.netloc,
        access_key=access_key,
        secret_key=secret_key,
        secure=address.scheme == "https",
        region=region,
        http_client=pool,
    )


@contextmanager
def s3_errors(what: str) -> Iterator[None]:
    """Raise what the server or the network refuses as NotFound, Unavailable, PermissionDenied...; `what` is named."""
    try:
        yield
    except S3Error as failure:
        status = failure.response.status if failure.response is not None else 0
        raise _translate(failure.code or "", failure.message or "", status, what) from failure
    except InvalidResponseError as failure:
        # `rclone serve s3` sends its errors as text/xml, which the client does not take for XML.
        code, message, status = _read_error(failure)
        raise _translate(code, message, status, what) from failure
    except (ServerError, HTTPError, ConnectionError, TimeoutError) as failure:
        why = f"{type(failure).__name__}: {failure}"
        raise Unavailable(f"object storage does not answer ({what}): {why}", reason="S3_UNAVAILABLE") from failure
    except MinioException as failure:
        raise Permanent(f"object storage refused {what}: {failure}", reason="S3_REFUSED") from failure


def _read_error(failure: InvalidResponseError) -> tuple[str, str, int]:
    status, body = failure._code, failure._body or ""  # noqa: SLF001 - it has no other way to say them
    code = re.search(r"<Code>([^<]+)</Code>", body)
    message = re.search(r"<Message>([^<]+)</Message>", body)
    return code[1] if code else f"HTTP {status}", message[1] if message else "no further word", status


def _translate(code: str, message: str, status: int, what: str) -> PawlError:
    said = f"object storage says {code} to {what}: {message}"
    if code in _MISSING:
        return NotFound(f"object storage has no {what} ({code})", reason="NO_SUCH_OBJECT")
    if code in _TAKEN:
        return AlreadyExists(said, reason="ALREADY_THERE")
    if code in _UNKNOWN_CALLER:
        return Unauthenticated(said, reason="S3_CREDENTIALS")
    if code in _REFUSED:
        return PermissionDenied(said, reason="S3_ACCESS_DENIED")
    if code in _FULL or status == 507:
        return ResourceExhausted(said, reason="S3_FULL")
    if code in _BUSY or status == 429:
        return Busy(said, reason="S3_BUSY")
    if status >= 500:
        return Unavailable(said, reason="S3_UNAVAILABLE")
    return Permanent(said, reason="S3_REFUSED")
