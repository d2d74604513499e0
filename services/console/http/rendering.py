"""How pages in files of their own get rendered."""

from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import Response


class Render(Protocol):
    """Renders a template with values as the answer to a request."""

    def __call__(self, template: str, request: Request, status: int = 200, **values: Any) -> Response:
        """The page."""
