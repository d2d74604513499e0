"""Bytes by digest: an object store whose objects are written once and verified on every read, and trees of files."""

from libs.artifacts.manifest import FileRef, Limits, Manifest, manifest_digest, manifest_of
from libs.artifacts.secret import TenantSecrets
from libs.artifacts.store import ObjectStore, StoredObject
from libs.artifacts.trees import verify_tree

__all__ = [
    "FileRef",
    "Limits",
    "Manifest",
    "ObjectStore",
    "StoredObject",
    "TenantSecrets",
    "manifest_digest",
    "manifest_of",
    "verify_tree",
]
