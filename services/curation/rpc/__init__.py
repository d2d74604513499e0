"""gRPC of curation: dataset versions and the review queue."""

from services.curation.rpc.datasets import CurationServicer
from services.curation.rpc.review import ReviewServicer

SERVICES = ("pawl.curation.v1.CurationService", "pawl.curation.v1.ReviewService")

__all__ = ["SERVICES", "CurationServicer", "ReviewServicer"]
