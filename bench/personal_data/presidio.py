"""Presidio's pattern recognisers over sentences, as JSON: `python bench/personal_data/presidio.py TEXTS OUT`.

Run by the interpreter that has `presidio-analyzer`; no language model, so every recogniser is a pattern or a library.
"""

import json
import sys
import time
from pathlib import Path

from presidio_analyzer import predefined_recognizers as known

_KINDS = {
    "CREDIT_CARD": "card", "EMAIL_ADDRESS": "email", "IBAN_CODE": "iban", "IP_ADDRESS": "ip", "PHONE_NUMBER": "phone",
    "US_SSN": "ssn", "URL": "url", "DATE_TIME": "date", "US_DRIVER_LICENSE": "licence",
}  # fmt: skip


def main() -> None:
    """Spans with kind and score, per text."""
    texts = json.loads(Path(sys.argv[1]).read_text())
    recognisers = [
        known.CreditCardRecognizer(), known.EmailRecognizer(), known.IbanRecognizer(), known.IpRecognizer(),
        known.PhoneRecognizer(), known.UsSsnRecognizer(), known.UrlRecognizer(), known.DateRecognizer(),
        known.UsLicenseRecognizer(),
    ]  # fmt: skip
    begun = time.perf_counter()
    spans = [
        [
            (_KINDS[found.entity_type], found.start, found.end, found.score)
            for recogniser in recognisers
            for found in recogniser.analyze(text, recogniser.supported_entities, None) or []
        ]
        for text in texts
    ]
    Path(sys.argv[2]).write_text(json.dumps({"seconds": time.perf_counter() - begun, "spans": spans}))


if __name__ == "__main__":
    main()
