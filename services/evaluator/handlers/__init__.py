"""What the evaluator does when told to evaluate, and what it makes of live traffic."""
