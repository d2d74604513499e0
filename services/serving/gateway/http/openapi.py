"""The OpenAPI document of the HTTP door, made from the models that read the requests."""

from typing import Any

from services.serving.gateway.http.requests import ChatRequest, CompletionRequest, EmbeddingRequest

_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": "string"},
            },
        }
    },
}


def document() -> dict[str, Any]:
    """OpenAPI 3.1."""
    schemas: dict[str, Any] = {"Error": _ERROR}
    for model in (ChatRequest, CompletionRequest, EmbeddingRequest):
        held = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(held.pop("$defs", {}))
        schemas[model.__name__] = held
    return {
        "openapi": "3.1.0",
        "info": {"title": "Pawl gateway", "version": "1"},
        "paths": {
            "/v1/models": {"get": _operation("Models that the key may ask for.")},
            "/v1/models/{model}": {
                "get": {**_operation("One of them."), "parameters": [_parameter("model", "path", required=True)]}
            },
            "/v1/chat/completions": {"post": _operation("An answer to a conversation.", "ChatRequest")},
            "/v1/completions": {"post": _operation("A text, continued as it stands.", "CompletionRequest")},
            "/v1/embeddings": {"post": _operation("Vectors of texts, where the base makes them.", "EmbeddingRequest")},
            "/v1/route": {
                "get": {
                    **_operation("Which version a request would get, and why."),
                    "parameters": [
                        _parameter(name, "query") for name in ("model", "user", "segment", "task_type", "domain")
                    ],
                }
            },
            "/v1/feedback": {
                "post": {**_operation("Feedback on answers.", None), "parameters": [_parameter("task", "query")]}
            },
        },
        "components": {
            "schemas": schemas,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"key": []}],
    }


def _operation(summary: str, body: str | None = "") -> dict[str, Any]:
    """`body` names a schema; None is any JSON, empty is none."""
    operation: dict[str, Any] = {
        "summary": summary,
        "responses": {
            "2XX": {"description": "done"},
            "4XX": {
                "description": "refused: the error names what is wrong",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
            },
        },
    }
    if body != "":
        schema = {"$ref": f"#/components/schemas/{body}"} if body else {}
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return operation


def _parameter(name: str, where: str, *, required: bool = False) -> dict[str, Any]:
    return {"name": name, "in": where, "required": required, "schema": {"type": "string"}}
