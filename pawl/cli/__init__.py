"""The command line: `pawl`."""

import os
import sys
from typing import NoReturn

import typer
from rich.console import Console
from rich.text import Text

from libs.contracts.errors import PawlError
from pawl.cli import campaign, data, evaluation, evidence, fleet, lifecycle, look, review, route, stack, training, work

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
stack.register(app)
work.register(app)
lifecycle.register(app)
look.register(app)
route.register(app)
fleet.register(app)
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
        _refuse(str(error))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whoever read has seen enough
        sys.exit(141)
    except OSError as error:
        if error.filename is None:
            raise
        _refuse(f"{error.filename}: {error.strerror}")
    except KeyboardInterrupt:
        sys.exit(130)


def _refuse(text: str) -> NoReturn:
    Console(stderr=True, soft_wrap=True).print(Text.assemble(("error: ", "bold red"), text), highlight=False)
    sys.exit(1)
