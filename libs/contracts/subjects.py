"""Names of streams, KV buckets and the keys in them."""

FEEDBACK = "FEEDBACK"
INFERENCE = "INFERENCE"
OUTCOME = "OUTCOME"
EVENTS = "EVT"
COMMANDS = "CMD"
DEAD_LETTERS = "DLQ"

ROUTES = "routes"
ENGINES = "engines"
KEYS = "keys"
RULES = "rules"
RUNS = "runs"
TASKS = "tasks"


def task_key(tenant: str, task: str) -> str:
    """Key of a task in the buckets `routes` and `tasks`."""
    return f"{tenant}.{task}"


def version_name(task: str, number: int) -> str:
    """The public name of a model version, `support-triage@7`; number 0 is the bare base."""
    return f"{task}@{number}"
