"""What a person decides becomes part of the next version, through gRPC and through Label Studio."""

import json

import pytest

from libs.contracts.errors import FailedPrecondition, InvalidInput, NotFound
from libs.contracts.stubs.pawl.curation.v1 import curation_pb2 as data
from libs.contracts.stubs.pawl.curation.v1 import review_pb2 as pb
from services.curation.domain import labelstudio
from services.curation.tests.conftest import House, row, tickets


def annotation(item_id: str, decision: str, **texts: str) -> dict[str, object]:
    result = [{"from_name": "decision", "type": "choices", "value": {"choices": [decision]}}]
    result += [{"from_name": name, "type": "textarea", "value": {"text": [text]}} for name, text in texts.items()]
    return {"data": {"item_id": item_id}, "annotations": [{"result": result, "completed_by": {"email": "x@y.z"}}]}


def test_a_label_studio_export_is_read_and_what_cannot_be_is_named() -> None:
    tasks = [
        annotation("rev-1", "edit", answer="better"), annotation("rev-2", "maybe"), {"data": {}},
        {"data": {"item_id": "rev-3"}, "annotations": [{"was_cancelled": True, "result": []}]},
    ]  # fmt: skip
    found, problems = labelstudio.decisions(json.dumps(tasks), "ann")
    assert [(each["item_id"], each["state"], each["answer"], each["by"]) for each in found] == [
        ("rev-1", "edited", "better", "x@y.z")
    ]
    assert len(problems) == 2
    assert "the decision 'maybe' is none of approve, edit, reject" in problems[0]
    with pytest.raises(InvalidInput, match="not a list of tasks"):
        labelstudio.decisions("{}", "ann")


def test_a_flat_export_of_label_studio_is_told_from_one_that_holds_decisions() -> None:
    found, problems = labelstudio.decisions(json.dumps([{"item_id": "rev-1", "decision": "reject"}, "x"]), "ann")
    assert (found, len(problems)) == ([], 2)
    assert all(each.endswith("export as JSON, not JSON-MIN") for each in problems)


async def test_decisions_undone_rules_and_histories_carry_into_the_next_version(house: House) -> None:
    tied = [row(300, "where is it", "here"), row(301, "where is it", "there"), row(302, "who came", "nobody")]
    tied.append(row(303, "what broke", "the lid", review="two people disagree"))
    twin = "please tell the team that the parcel for the lab on the top floor is there"
    await house.built([*tickets(120), *tied, row(310, twin, group="t"), row(311, twin + " thanks", group="t")])
    listed = await house.reviews.ListReview(pb.ListReviewRequest(task="triage"), None)
    items = {each.row_id: each for each in listed.items}
    assert {"row-00300", "row-00301", "row-00303"} <= set(items)
    assert listed.items[0].value >= listed.items[-1].value

    exported = await house.reviews.ExportReview(pb.ExportReviewRequest(task="triage"), None)
    assert {each["data"]["item_id"] for each in json.loads(exported.tasks_json)} == {i.item_id for i in listed.items}
    tasks = [annotation(items["row-00300"].item_id, "approve"), annotation("rev-nothing", "approve")]
    done = await house.reviews.ImportReview(
        pb.ImportReviewRequest(task="triage", export_json=json.dumps(tasks), by="ann"), None
    )
    assert (done.approved, len(done.problems)) == (1, 1)
    edit = pb.DecideRequest(task="triage", item_id=items["row-00303"].item_id, state="edited", by="bob", answer="both")
    assert (await house.reviews.Decide(edit, None)).item.new_answer == "both"
    with pytest.raises(FailedPrecondition, match="changes nothing"):
        await house.reviews.Decide(pb.DecideRequest(task="triage", item_id=edit.item_id, state="edited", by="b"), None)
    with pytest.raises(NotFound, match="no review item"):
        await house.reviews.Decide(pb.DecideRequest(task="triage", item_id="x", state="approved", by="b"), None)
    with pytest.raises(FailedPrecondition, match="cannot be undone"):
        await house.rpc.SetRule(data.SetRuleRequest(task="triage", rule="no_consent", undone=True), None)
    undo = data.SetRuleRequest(task="triage", rule="near_duplicate", undone=True, by="ann", reason="all are wanted")
    assert (await house.rpc.SetRule(undo, None)).rule.undone

    second = await house.built([], 2)
    assert "near_duplicate" not in second.removed
    told = await house.rpc.GetHistory(data.GetHistoryRequest(task="triage", row_id="row-00301"), None)
    assert [(each.rule, each.outcome, each.other) for each in told.entries] == [
        ("label_conflict_lost", "quarantined", "row-00300")
    ]
    told = await house.rpc.GetHistory(data.GetHistoryRequest(task="triage", row_id="row-00303"), None)
    assert [(each.rule, each.evidence) for each in told.entries] == [("review_edited", "by bob")]
    request = data.DiffDatasetsRequest(task="triage", to=2)
    setattr(request, "from", 1)
    changed = json.loads((await house.rpc.DiffDatasets(request, None)).diff_json)
    assert changed["added"]["was"] == {"label_conflict_tie": 1, "near_duplicate": 1}
    assert changed["rewritten"]["examples"] == ["row-00303"]
    assert changed["moved_between_splits"]["rows"] == 0
    card = await house.rpc.GetCard(data.GetCardRequest(task="triage"), None)
    assert json.loads(card.croissant_json)["version"] == "2.0.0"
    assert "dataset version 2" in card.card
