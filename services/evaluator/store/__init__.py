"""The evaluator's state: reports and the ledger of live evidence."""

from services.evaluator.store.answers import Answers
from services.evaluator.store.asked import AskedEvaluations
from services.evaluator.store.ledger import Ledger
from services.evaluator.store.reports import Reports
from services.evaluator.store.tables import METADATA

__all__ = ["METADATA", "Answers", "AskedEvaluations", "Ledger", "Reports"]
