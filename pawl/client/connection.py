"""Where a running Pawl is: the local stack of this directory, or a cluster named by the environment."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from libs.artifacts import ObjectStore
from libs.contracts.errors import InvalidInput, NotFound, Unavailable
from pawl.local import specs
from pawl.local.layout import Layout
from pawl.local.state import StackState

GRPC = ("registry", "ingestion", "curation", "trainer", "evaluator", "grpc")


@dataclass(frozen=True, slots=True)
class Connection:
    """Addresses and credentials; `endpoints` as in `pawl status --json`."""

    endpoints: dict[str, str]
    api_key: str = field(repr=False)
    s3_access_key: str = field(default="", repr=False)
    s3_secret_key: str = field(default="", repr=False)
    s3_bucket: str = specs.S3_BUCKET
    s3_region: str = "us-east-1"
    nats_password: str = field(default="", repr=False)
    """That of the broker's user `pawl`; empty where the broker asks nobody."""

    @classmethod
    def find(cls, directory: Path | None = None) -> "Connection":
        """From `PAWL_ENDPOINTS` (a JSON object) if set, else from the local stack's directory."""
        if "PAWL_ENDPOINTS" in os.environ:
            return cls(
                endpoints=_endpoints(os.environ["PAWL_ENDPOINTS"]),
                api_key=os.environ.get("PAWL_API_KEY", ""),
                s3_access_key=os.environ.get("PAWL_S3_ACCESS_KEY", ""),
                s3_secret_key=os.environ.get("PAWL_S3_SECRET_KEY", ""),
                s3_bucket=os.environ.get("PAWL_S3_BUCKET", specs.S3_BUCKET),
                s3_region=os.environ.get("PAWL_S3_REGION", "us-east-1"),
                nats_password=os.environ.get("PAWL_NATS_PASSWORD", ""),
            )
        layout = Layout.at(directory)
        if not layout.state.exists():
            raise NotFound(
                f"no stack in {layout.root}: start one with `pawl up`, or name one with --dir or PAWL_ENDPOINTS"
            )
        state = StackState.load(layout)
        if "registry-grpc" not in state.ports:
            raise Unavailable(f"the stack in {layout.root} has never come up: `pawl up`")
        return cls(
            endpoints=specs.endpoints(state),
            api_key=state.secret("api_key"),
            s3_access_key=state.secret("s3_access_key"),
            s3_secret_key=state.secret("s3_secret_key"),
            nats_password=state.secrets.get("nats_pawl", ""),
        )

    def objects(self) -> ObjectStore:
        """The object storage behind the endpoint `s3`."""
        return ObjectStore(self.address("s3"), self.s3_access_key, self.s3_secret_key, self.s3_bucket, self.s3_region)

    def address(self, name: str) -> str:
        """The endpoint called `name`."""
        if name not in self.endpoints:
            raise NotFound(f"no endpoint {name!r}; there are {', '.join(sorted(self.endpoints))}", field=name)
        return self.endpoints[name]


def _endpoints(text: str) -> dict[str, str]:
    try:
        endpoints = json.loads(text)
    except ValueError as error:
        raise InvalidInput(f"PAWL_ENDPOINTS is not JSON: {error}", field="PAWL_ENDPOINTS") from error
    if not isinstance(endpoints, dict) or not all(isinstance(address, str) for address in endpoints.values()):
        raise InvalidInput("PAWL_ENDPOINTS is not a JSON object of addresses by name", field="PAWL_ENDPOINTS")
    return endpoints
