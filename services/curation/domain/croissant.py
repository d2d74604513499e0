"""Croissant 1.1 (MLCommons, JSON-LD): what the files of a dataset version are, for machines."""

from collections.abc import Mapping, Sequence
from typing import Any

from libs.contracts.errors import InvalidInput

CONFORMS_TO = "http://mlcommons.org/croissant/1.1"
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
_FIELDS = (
    ("row_id", "the row's id, the same in every version"),
    ("category", "category, where the row has one"),
    ("group", "rows of one group stand on one side of the split"),
    ("source", "where the row came from"),
)
_NEEDED = (
    "@context", "@type", "conformsTo", "name", "description", "license", "url", "creator", "datePublished",
    "distribution", "recordSet",
)  # fmt: skip


def croissant(
    *,
    name: str,
    description: str,
    version: str,
    licence: str,
    tenant: str,
    published: str,
    files: Mapping[str, tuple[str, int]],
    report: Mapping[str, Any],
    languages: Sequence[str],
) -> dict[str, Any]:
    """The document. `files` are sha256 (hex) and bytes per split's file; `published` is a date, of the newest row.

    RAI terms say how the data were collected, cleaned and freed of personal data.
    """
    document: dict[str, Any] = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS_TO,
        "name": name,
        "description": description or f"Dataset version {version} of {name}.",
        "version": version,
        "license": licence,
        "url": f"urn:pawl:{tenant}:{name}:{version}",
        "creator": {"@type": "sc:Organization", "name": tenant},
        "datePublished": published,
        "isLiveDataset": False,
        "citeAs": f"{name}, dataset version {version}",
        "rai:dataCollection": f"Rows by source: {_counts(report['sources'])}.",
        "rai:dataCollectionType": ["Others"],
        "rai:dataPreprocessingProtocol": [
            f"Edited: {_counts(report['edited'])}.",
            f"Removed: {_counts(report['removed'])}.",
        ],
        "rai:personalSensitiveInformation": [f"Values replaced or dropped: {_counts(report['redacted'])}."],
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": path,
                "name": path,
                "contentUrl": path,
                "contentSize": f"{size} B",
                "encodingFormat": "application/jsonlines",
                "sha256": digest,
            }
            for path, (digest, size) in sorted(files.items())
        ],
        "recordSet": [_records(path) for path in sorted(files)],
    }
    if languages:
        document["inLanguage"] = list(languages)
    return check(document)


def check(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document, if it has what Croissant requires and every reference in it leads somewhere; else InvalidInput."""
    for needed in _NEEDED:
        if not document.get(needed):
            raise InvalidInput(f"the Croissant document lacks {needed}", field=needed)
    known = {each["@id"] for each in document["distribution"]}
    for at, each in enumerate(document["distribution"]):
        if len(each.get("sha256", "")) != 64 or not each.get("contentUrl") or not each.get("encodingFormat"):
            raise InvalidInput("a FileObject needs sha256, contentUrl and encodingFormat", field=f"distribution[{at}]")
    ids: set[str] = set()
    for records in document["recordSet"]:
        for each in [records, *records["field"]]:
            if each["@id"] in ids:
                raise InvalidInput(f"{each['@id']} stands twice", field="recordSet")
            ids.add(each["@id"])
        for each in records["field"]:
            if each["source"]["fileObject"]["@id"] not in known:
                raise InvalidInput(f"{each['@id']} refers to no file", field="recordSet")
    return dict(document)


def _records(path: str) -> dict[str, Any]:
    split = path.removesuffix(".jsonl")

    def field(name: str, says: str, column: str, part: str = "") -> dict[str, Any]:
        source: dict[str, Any] = {"fileObject": {"@id": path}, "extract": {"column": column}}
        told = {"@type": "cr:Field", "@id": f"{split}/{name}", "name": name, "description": says, "dataType": "sc:Text"}
        if not part:
            return {**told, "source": source}
        return {**told, "repeated": True, "source": {**source, "transform": {"jsonPath": f"$[*].{part}"}}}

    fields = [field(name, says, name) for name, says in _FIELDS]
    fields.append(field("roles", "roles of the messages, in order", "messages", "role"))
    fields.append(field("contents", "texts of the messages, the answer last", "messages", "content"))
    return {"@type": "cr:RecordSet", "@id": split, "name": split, "field": fields}


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"
