"""Raw feedback, the inference log and imports, kept as Parquet segments in object storage."""
