"""The command line: `pawl`."""

import sys

import typer
from rich.console import Console

from libs.contracts.errors import PawlError
from pawl.cli import campaign, data, evaluation, evidence, lifecycle, look, review, route, stack, training, work

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
stack.register(app)
work.register(app)
lifecycle.register(app)
look.register(app)
route.register(app)
evaluation.register(app)
campaign.register(app)
evidence.register(app)
data.register(app)
review.register(app)
training.register(app)


def main() -> None:
    """Run the command; an error is one clear line on stderr and status 1."""
    try:
        app()
    except PawlError as error:
        Console(stderr=True, soft_wrap=True).print(f"[bold red]error:[/] {error}", markup=True, highlight=False)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
