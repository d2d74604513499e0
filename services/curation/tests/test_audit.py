"""An audit tells what is there before anything is changed, as data and as a page that stands alone."""

import json
import re
from pathlib import Path

import pytest

from libs.contracts.errors import InvalidInput
from libs.contracts.stubs.pawl.curation.v1 import curation_pb2 as pb
from libs.testing.models import tiny_base
from services.curation.compute.audit import report_of
from services.curation.compute.categories import cluster, embed
from services.curation.compute.tokens import TokenCounter
from services.curation.domain.audit_page import page
from services.curation.domain.charts import bars, histogram
from services.curation.tests.conftest import House, context_for, row, tickets


def test_tokens_are_counted_under_the_tasks_own_template(tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base")
    files = {name: str(base / name) for name in ("tokenizer.json", "chat_template.jinja")}
    counter = TokenCounter(files)
    short = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ok"}]
    from tokenizers import Tokenizer

    rendered = "<|bos|><|user|>hi<|end|><|assistant|>ok<|end|>"
    expected = len(Tokenizer.from_file(files["tokenizer.json"]).encode(rendered, add_special_tokens=False).ids)
    assert counter.lengths([short, [{"role": "ghost", "content": "x"}]]) == [expected, None]


def test_a_template_that_marks_what_the_model_says_counts_the_same_and_one_that_is_none_is_named(
    tmp_path: Path,
) -> None:
    base = tiny_base(tmp_path / "base")
    files = {name: str(base / name) for name in ("tokenizer.json", "chat_template.jinja")}
    said = [[{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ok"}]]
    text = "{% for m in messages %}{{ m.role }}MARK{{ m.content }}END{% endfor %}{{ tools[0].name if tools }}"
    counted = []
    for mark, end in (("", ""), ("{% generation %}", "{% endgeneration %}")):
        Path(files["chat_template.jinja"]).write_text(text.replace("MARK", mark).replace("END", end))
        counted.append(TokenCounter(files).lengths(said))
        assert TokenCounter(files).lengths(said, [[{"name": "find my order"}]])[0] > counted[-1][0]  # type: ignore[operator]
    assert counted[0] == counted[1]
    Path(files["chat_template.jinja"]).write_text("{% endless %}")
    with pytest.raises(InvalidInput, match="chat template cannot be read: Encountered unknown tag 'endless'"):
        TokenCounter(files)
    report = report_of(tickets(30), context_for(), files)
    assert report["tokens"]["counted"] == 0
    assert "cannot be read" in report["tokens"]["why_not"]


def test_charts_escape_what_they_name_and_need_nothing_from_outside() -> None:
    drawn = bars({"<script>": 3, "b": 1}) + histogram([[0, 1], [5, 4]], mark=6)
    assert "&lt;script&gt;" in drawn
    assert "<script>" not in drawn
    assert "http" not in drawn


def test_clusters_find_the_topics_that_rows_are_about() -> None:
    said = {
        "printer": "paper jam toner tray",
        "invoice": "total amount due refund",
        "router": "signal wifi cable light",
    }
    texts, truth = [], []
    for at in range(90):
        name = list(said)[at % 3]
        words = said[name].split()
        texts.append(f"{name} {words[at % 4]} {words[(at // 3) % 4]} please look at the {name}")
        truth.append(name)
    labels = cluster(embed(texts), 3)
    assert len({(label, name) for label, name in zip(labels.tolist(), truth, strict=True)}) == 3


async def test_an_audit_over_grpc_counts_what_is_wrong_and_changes_nothing(house: House, tmp_path: Path) -> None:
    digest = await house.objects.put_tree(tiny_base(tmp_path / "base"), kind="base", metadata={})
    await house.apply(base=digest)
    rows = [*tickets(80), row(200, "mail ann@example.com about the caf\u00c3\u00a9", "a"), row(201, "why", None)]
    await house.segment([*rows, row(202, "same again", "x"), row(203, "same again", "y")])
    from libs.testing.wait import eventually
    from services.curation.store import datasets

    await eventually(lambda: datasets.segments_to(house.database, "default", "triage", 1), 10)
    found = await house.rpc.AuditTask(pb.AuditTaskRequest(task="triage"), None)
    told = json.loads(found.audit_json)
    assert told["rows"]["total"] == 84
    assert told["tokens"]["counted"] == 83
    assert told["personal_data"]["values"] == {"email": 1}
    assert told["label_conflicts"]["texts"] == 1
    assert told["policy_would"]["quarantine"] == {"label_conflict_tie": 2, "no_answer": 1}
    assert told["policy_would"]["edit"]["encoding_repaired"] == 1
    assert found.audit_html.count("<svg") >= 6
    assert "planted copies, is right in" in found.audit_html
    assert "<h2>Languages</h2>" in found.audit_html
    assert "<h2>Languages of 40 rows, evenly spaced</h2>" in page({**told, "languages": {"en": 40}})
    assert not re.search(r"<script|src=|href=|@import|url\(", found.audit_html)
    assert (await house.objects.get_bytes(found.json_digest)).decode() == found.audit_json
    assert await datasets.listed(house.database, "default", "triage") == []
