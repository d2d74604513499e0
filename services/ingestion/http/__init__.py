"""The HTTP door of ingestion: imports by upload or by URI, and what was set aside."""
