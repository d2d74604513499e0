"""`pawl campaign`: blind A/B by experts."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from libs.contracts.campaign import audit
from libs.contracts.errors import InvalidInput, NotFound
from pawl.cli.common import By, Dir, connect, out
from pawl.client import Pawl

CampaignId = Annotated[str, typer.Argument(help="as in `pawl campaign list`")]
AsJson = Annotated[bool, typer.Option("--json")]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    group = typer.Typer(no_args_is_help=True, help="Blind A/B by experts: open, follow, close, verify.")
    for name, command in (("open", open_), ("list", list_), ("show", show), ("close", close), ("verify", verify),
                          ("judge", judge)):  # fmt: skip
        group.command(name)(command)
    app.add_typer(group, name="campaign")


def open_(
    task: Annotated[str, typer.Argument(help="name of the task")],
    by: By,
    report: Annotated[str, typer.Option("--report", help="a report (default: the newest of the task)")] = "",
    treatment: Annotated[str, typer.Option(help="the arm whose advantage is asked about")] = "fine_tuned",
    control: Annotated[str, typer.Option(help="the arm it is compared with")] = "base",
    name: Annotated[str, typer.Option(help="what reviewers see; must not name an arm")] = "",
    guidelines: Annotated[Path | None, typer.Option(help="a text file with what to look at")] = None,
    items: Annotated[int, typer.Option(help="items at most")] = 200,
    overlap: Annotated[float, typer.Option(help="fraction of the items that several reviewers vote on")] = 0.15,
    raters: Annotated[int, typer.Option(help="reviewers of an overlapping item")] = 3,
    directory: Dir = None,
) -> None:
    """Begin a campaign; its order is committed to before the first vote."""
    told = guidelines.read_text(encoding="utf-8") if guidelines is not None else ""
    with connect(directory) as pawl:
        opened = pawl.open_campaign(
            report or _newest(pawl, task), treatment, control, by=by, name=name, guidelines=told, max_items=items,
            overlap=overlap, raters=raters,
        )  # fmt: skip
        console = pawl.connection.endpoints.get("console", "")
    out.print(f"{opened.campaign_id}: {opened.items} items to vote on", highlight=False)
    out.print(f"committed to the order {opened.commitment}", highlight=False)
    if console:
        out.print(f"vote at {console}/campaigns/{opened.campaign_id}", highlight=False)


def list_(task: Annotated[str, typer.Argument(help="name of the task")] = "", directory: Dir = None) -> None:
    """Campaigns, newest first."""
    table = Table("campaign", "task", "state", "items done", "votes", "name", box=None, pad_edge=False)
    with connect(directory) as pawl:
        for each in pawl.campaigns(task):
            done = f"{each.items_done} of {each.items}"
            table.add_row(each.campaign_id, each.task, each.state, done, str(each.votes), each.name)
    out.print(table)


def show(
    campaign_id: CampaignId,
    peek: Annotated[bool, typer.Option("--peek", help="show the standing of an open campaign")] = False,
    as_json: AsJson = False,
    directory: Dir = None,
) -> None:
    """The standing: win rates with intervals and verdicts, agreement, judges."""
    with connect(directory) as pawl:
        standing = pawl.standing(campaign_id, peek=peek)
    if as_json:
        sys.stdout.write(json.dumps(standing, indent=2) + "\n")
        return
    out.print(
        f"{standing['treatment']} against {standing['control']}: {standing['overall']['reason']}", highlight=False
    )
    table = Table("", "verdict", "won", "lost", "tied", "win rate", "at all times within", box=None, pad_edge=False)
    for name, line in (("overall", standing["overall"]), *standing["categories"].items()):
        within = f"{line['sequence']['low']:.0%} to {line['sequence']['high']:.0%}"
        counts = (str(line["wins"]), str(line["losses"]), str(line["ties"]))
        table.add_row(name, line["verdict"], *counts, f"{line['win_rate']:.0%}", within)
    out.print(table)
    for words, told in _beside(standing):
        out.print(f"{words}: {told}", highlight=False)


def close(campaign_id: CampaignId, by: By, directory: Dir = None) -> None:
    """End a campaign: no more votes, and its order is laid open."""
    with connect(directory) as pawl:
        closed = pawl.close_campaign(campaign_id, by=by)
    out.print(f"{closed.campaign_id}: closed with {closed.votes} votes; {closed.treatment} against {closed.control}")


def verify(campaign_id: CampaignId, directory: Dir = None) -> None:
    """Check here, not at the server, that order and votes are what was committed to; status 1 if they are not."""
    with connect(directory) as pawl:
        document, told = pawl.audit_of(campaign_id), pawl.campaign(campaign_id)
    troubles = audit(document)
    if told.commitment != document["commitment"]:
        troubles.append("the campaign and its audit name different commitments")
    for trouble in troubles:
        out.print(trouble, highlight=False)
    if troubles:
        raise typer.Exit(1)
    count = len(document["ballots"])
    out.print(f"holds: {len(document['slots'])} pairs as committed, {count} ballots in one chain to {document['head']}")


def judge(
    campaign_id: CampaignId,
    file: Annotated[Path, typer.Argument(help='JSON lines: {"item_id": ..., "preference": 0 to 1}')],
    name: Annotated[str, typer.Option("--judge", help="who judged: model and prompt version")],
    directory: Dir = None,
) -> None:
    """Add a judge's preferences for the treatment; they count only once the judge is calibrated."""
    preferences = dict(_preference(file, number, line) for number, line in enumerate(_lines(file), 1) if line.strip())
    with connect(directory) as pawl:
        added = pawl.add_judgements(campaign_id, name, preferences)
    out.print(f"{added} judgements added")


def _newest(pawl: Pawl, task: str) -> str:
    newest = next((each for each in pawl.reports(task) if each.verdict), None)
    if newest is None:
        raise NotFound(f"there is no report of {task} yet; a campaign compares two arms of one", field="--report")
    return newest.report_id


def _beside(standing: dict[str, Any]) -> list[tuple[str, str]]:
    lines = []
    if standing["length_controlled"]:
        lines.append(("at equal length", _interval(standing["length_controlled"]["estimate"])))
    if standing["agreement"]:
        lines.append(("agreement of raters (alpha)", _interval(standing["agreement"])))
    lines.append(("left was picked in", _interval(standing["sides"]["left"])))
    lines += [(f"judge {name}", told["reason"]) for name, told in standing["judges"].items()]
    return lines


def _interval(estimate: dict[str, float]) -> str:
    return f"{estimate['value']:.2f} [{estimate['low']:.2f}, {estimate['high']:.2f}] n={estimate['n']}"


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InvalidInput(f"{file}: cannot be read: {error.strerror}", field="file") from error


def _preference(file: Path, number: int, line: str) -> tuple[str, float]:
    try:
        row = json.loads(line)
        return str(row["item_id"]), float(row["preference"])
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInput(
            f'{file}:{number}: must look like {{"item_id": "...", "preference": 0.5}}: {error}', field="file"
        ) from error
