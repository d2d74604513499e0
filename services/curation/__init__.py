"""Dataset versions: immutable, content-addressed sets of examples with splits, report and card."""
