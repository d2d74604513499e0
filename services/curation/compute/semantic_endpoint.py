"""Embeddings from any OpenAI-compatible endpoint, asked in batches; for the few texts worth a model."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any

import numpy as np

from libs.contracts.errors import InvalidInput, Unavailable
from services.curation.compute.semantic import Vectors, unit

_TRIES, _PAUSE_SECONDS = 4, 0.5
_LONGEST = 8_000
"""Characters of a text that are sent; most models read no more."""


class EndpointEmbeddings:
    """Implements `compute.semantic.Embeddings` by `POST {url}/embeddings`.

    Raises InvalidInput where the endpoint refuses or answers otherwise than asked, Unavailable where it stays away.
    """

    dear = True

    def __init__(self, url: str, model: str, *, key: str = "", batch: int = 64, timeout: float = 30.0) -> None:
        """`url` ends before `/embeddings`, as in `https://host/v1`; `timeout` in seconds for each request."""
        if not url.startswith(("http://", "https://")):
            raise InvalidInput(f"an embeddings endpoint is an http or https address, not {url!r}", field="url")
        self.name = f"endpoint/{model}"
        self._url = f"{url.rstrip('/')}/embeddings"
        self._model = model
        self._key = key
        self._batch = batch
        self._timeout = timeout
        self._known: dict[str, Vectors] = {}

    def embed(self, texts: Sequence[str]) -> Vectors:
        """As `Embeddings.embed`; a text is sent once."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        for at in range(0, len(new), self._batch):
            batch = new[at : at + self._batch]
            self._known.update(zip(batch, self._asked(batch), strict=True))
        return unit(np.stack([self._known[text] for text in texts])) if texts else np.zeros((0, 1), np.float32)

    def _asked(self, texts: Sequence[str]) -> Vectors:
        body = json.dumps({"model": self._model, "input": [text[:_LONGEST] or " " for text in texts]}).encode()
        headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {self._key}"} if self._key else {})
        # The scheme was checked on construction.
        request = urllib.request.Request(self._url, body, headers)  # noqa: S310
        answer = self._sent(request)
        try:
            rows = sorted(answer["data"], key=lambda row: int(row["index"]))
            vectors = np.array([row["embedding"] for row in rows], dtype=np.float32)
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInput(f"{self._url} answered without embeddings: {error}", field="url") from error
        if vectors.ndim != 2 or len(vectors) != len(texts) or not np.isfinite(vectors).all():
            raise InvalidInput(f"{self._url} gave {len(vectors)} embeddings for {len(texts)} texts", field="url")
        return vectors

    def _sent(self, request: urllib.request.Request) -> Any:
        for attempt in range(_TRIES):
            try:
                with urllib.request.urlopen(request, timeout=self._timeout) as response:  # noqa: S310
                    return json.loads(response.read())
            except urllib.error.HTTPError as error:
                if error.code < 500 and error.code != 429:
                    said = error.read(500).decode("utf-8", "replace")
                    raise InvalidInput(f"{self._url} refused with {error.code}: {said}", field="url") from error
                reason = f"status {error.code}"
            except ValueError as error:
                raise InvalidInput(f"{self._url} did not answer JSON: {error}", field="url") from error
            except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
                reason = str(error)
            if attempt + 1 < _TRIES:
                time.sleep(_PAUSE_SECONDS * 2**attempt)
        raise Unavailable(f"{self._url} stays away after {_TRIES} tries: {reason}", reason="EMBEDDINGS_AWAY")
