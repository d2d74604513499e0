"""What curation does on demand: audits, comparisons, synthesis, erasure."""
