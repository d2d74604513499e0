"""Reading files record by record and writing segments: the columnar part of ingestion."""
