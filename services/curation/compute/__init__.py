"""The columnar and heavy part of curation, run in a process of its own."""
