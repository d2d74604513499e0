"""Support triage: the language of the tickets, their dirty history, and the tiny base model that reads them."""
