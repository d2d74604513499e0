"""`python -m libs.outbox migrate <service>|all`: the one-shot migration job."""

import argparse
import os
import sys

from libs.contracts.errors import PawlError
from libs.outbox.migrate import migrate_now

STATEFUL = ("ingestion", "curation", "trainer", "evaluator", "registry")


def main(arguments: list[str] | None = None) -> int:
    """Migrate one service or all; 0 done, 1 refused, with the reason on stderr.

    The URL of a service is `--url`, else `PAWL_<SERVICE>_DATABASE_URL`, else `PAWL_DATABASE_URL`.
    """
    parser = argparse.ArgumentParser(prog="python -m libs.outbox", description="Migrate the services' databases.")
    parser.add_argument("command", choices=("migrate",))
    parser.add_argument("service", choices=(*STATEFUL, "all"))
    parser.add_argument("--url", help="database URL, instead of the environment's")
    chosen = parser.parse_args(arguments)
    for service in STATEFUL if chosen.service == "all" else (chosen.service,):
        own = f"PAWL_{service.upper()}_DATABASE_URL"
        url = chosen.url or os.environ.get(own) or os.environ.get("PAWL_DATABASE_URL")
        if not url:
            print(f"migrate {service}: no database URL: set {own}, PAWL_DATABASE_URL or --url", file=sys.stderr)
            return 1
        try:
            revision = migrate_now(url, f"services.{service}")
        except PawlError as error:
            print(f"migrate {service}: {error}", file=sys.stderr)
            return 1
        print(f"{service}: {revision or 'no revisions'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
