"""Croissant 1.1 (MLCommons, JSON-LD): what the files of a dataset version are, for machines."""

from collections.abc import Mapping, Sequence
from typing import Any

from libs.contracts.errors import InvalidInput
from services.curation.domain.columns import Column, Kind

CROISSANT = "croissant.json"
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
_PARTS = {
    "messages": ("role", "content"), "rejected": ("role",), "tools": ("function.name",), "lineage": ("model",),
}  # fmt: skip
"""What is read of a column that holds more than one value; of JSON the first alone: Croissant has no type for it."""
_TYPES = {Kind.FLAG: "sc:Boolean", Kind.NUMBER: "sc:Float"}
_NEEDED = (
    "@context", "@type", "conformsTo", "name", "description", "license", "url", "creator", "distribution", "recordSet",
)  # fmt: skip


def croissant(
    *,
    name: str,
    description: str,
    version: str,
    licence: str,
    tenant: str,
    published: str | None,
    files: Mapping[str, tuple[str, int]],
    columns: Mapping[str, Sequence[Column]],
    report: Mapping[str, Any],
    languages: Sequence[str],
) -> dict[str, Any]:
    """The document. `files` are sha256 (hex) and bytes per split's file, `columns` those of each; `published` is the
    newest date that a row itself states, and left out where none states any.

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
        **({"datePublished": published} if published else {}),
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
        "recordSet": [_records(path, columns[path]) for path in sorted(files)],
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
        leaves = [leaf for each in records["field"] for leaf in each.get("subField", [each])]
        for each in [records, *leaves]:
            if each["@id"] in ids:
                raise InvalidInput(f"{each['@id']} stands twice", field="recordSet")
            ids.add(each["@id"])
        for each in leaves:
            if each["source"]["fileObject"]["@id"] not in known:
                raise InvalidInput(f"{each['@id']} refers to no file", field="recordSet")
    return dict(document)


def _records(path: str, columns: Sequence[Column]) -> dict[str, Any]:
    split = path.removesuffix(".jsonl")
    fields = [_field(path, f"{split}/{column.name}", column) for column in columns]
    return {"@type": "cr:RecordSet", "@id": split, "name": split, "field": fields}


def _field(path: str, name: str, column: Column) -> dict[str, Any]:
    source: dict[str, Any] = {"fileObject": {"@id": path}, "extract": {"column": column.name}}
    told = {"@type": "cr:Field", "@id": name, "name": column.name, "description": column.says}
    if column.kind not in (Kind.MESSAGES, Kind.JSON):
        return {**told, "dataType": _TYPES.get(column.kind, "sc:Text"), "source": source}
    parts = _PARTS[column.name] if column.kind is Kind.MESSAGES else _PARTS[column.name][:1]
    fields = []
    for part in parts:
        short = part.rsplit(".", 1)[-1]
        where = {**source, "transform": {"jsonPath": part}}
        fields.append(
            {"@type": "cr:Field", "@id": f"{name}/{short}", "name": short, "dataType": "sc:Text", "source": where}
        )
    return {**told, **({} if column.name == "lineage" else {"repeated": True}), "subField": fields}


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"
