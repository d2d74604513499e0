"""The dirty history: the truth file says what is planted, and it is there."""

import json
from pathlib import Path
from typing import Any

import ftfy
import pytest

from triage import dirt
from triage.history import history, main


@pytest.fixture(scope="module")
def made() -> tuple[list[str], dict[str, Any]]:
    return history(7)


def planted(made: tuple[list[str], dict[str, Any]], kind: str) -> list[tuple[str, dict[str, Any]]]:
    lines, truth = made
    return [(lines[note["line"] - 1], note) for note in truth["rows"] if note["planted"] == kind]


def by_id(made: tuple[list[str], dict[str, Any]]) -> dict[str, dict[str, Any]]:
    bad = {note["line"] for note in made[1]["rows"] if note["planted"] == "malformed"}
    rows = [json.loads(line) for i, line in enumerate(made[0], 1) if i not in bad]
    return {row["ticket_id"]: row for row in rows}


def test_the_same_seed_gives_the_same_history(made: tuple[list[str], dict[str, Any]]) -> None:
    assert history(7) == made
    assert history(8)[0] != made[0]


def test_no_line_holds_a_line_break_and_no_ticket_id_occurs_twice(made: tuple[list[str], dict[str, Any]]) -> None:
    lines, truth = made
    assert len(lines) == truth["lines"]
    assert not any("\n" in line for line in lines)
    assert len(by_id(made)) == len(lines) - truth["counts"]["malformed"]


def test_every_planted_kind_occurs_as_often_as_counted(made: tuple[list[str], dict[str, Any]]) -> None:
    counts = made[1]["counts"]
    assert sorted(counts) == [
        "broken_encoding", "conflicting_label", "critical_difference", "exact_duplicate", "malformed",
        "near_duplicate", "personal_data", "wrong_label",
    ]  # fmt: skip
    assert all(len(planted(made, kind)) == n for kind, n in counts.items())


def test_exact_duplicates_repeat_text_and_resolution_of_the_row_they_name(
    made: tuple[list[str], dict[str, Any]],
) -> None:
    rows = by_id(made)
    for line, note in planted(made, "exact_duplicate"):
        row, source = json.loads(line), rows[note["of"]]
        assert row["ticket_id"] != source["ticket_id"]
        assert all(row[k] == source[k] for k in ("text", "resolution", "category", "form"))


def test_near_duplicates_differ_in_case_whitespace_or_greeting_only(made: tuple[list[str], dict[str, Any]]) -> None:
    rows = by_id(made)
    for line, note in planted(made, "near_duplicate"):
        row, source = json.loads(line), rows[note["of"]]
        assert row["text"] != source["text"]
        assert row["resolution"] == source["resolution"]
        words, old = row["text"].lower().split(), source["text"].lower().split()
        assert words[-8:] == old[-8:]
        assert note["kind"] == "greeting" or words == old


def test_critical_differences_change_one_value_and_the_answer(made: tuple[list[str], dict[str, Any]]) -> None:
    rows, kinds = by_id(made), set()
    for line, note in planted(made, "critical_difference"):
        row, source = json.loads(line), rows[note["of"]]
        assert row["text"] != source["text"]
        assert row["resolution"] != source["resolution"]
        assert row["category"] == source["category"]
        kinds.add(note["kind"])
    assert kinds == {"asset", "negation", "level"}


def test_personal_data_stands_in_the_text_and_passes_its_checks(made: tuple[list[str], dict[str, Any]]) -> None:
    for line, note in planted(made, "personal_data"):
        assert note["value"] in json.loads(line)["text"]
        if note["kind"] == "card":
            assert dirt.luhn(note["value"].replace(" ", ""))
        if note["kind"] == "iban":
            assert dirt.iban_valid(note["value"])


def test_broken_encodings_are_repaired_by_ftfy(made: tuple[list[str], dict[str, Any]]) -> None:
    for line, note in planted(made, "broken_encoding"):
        text = json.loads(line)["text"]
        assert text != note["clean"]
        wanted = ftfy.fix_text(note["clean"], uncurl_quotes=False)
        assert ftfy.fix_text(text, uncurl_quotes=False).lstrip("\ufeff") == wanted


def test_about_three_percent_of_the_labels_are_wrong_and_the_right_ones_are_known(
    made: tuple[list[str], dict[str, Any]],
) -> None:
    wrong = planted(made, "wrong_label")
    assert 0.025 <= len(wrong) / made[1]["good"] <= 0.035
    for line, note in wrong:
        row = json.loads(line)
        assert row["category"] != note["right"] == row["form"].rsplit("-", 1)[0]
        assert json.loads(row["resolution"])["category"] == row["category"]


def test_conflicting_rows_have_one_text_and_two_answers(made: tuple[list[str], dict[str, Any]]) -> None:
    rows = by_id(made)
    for line, note in planted(made, "conflicting_label"):
        row = json.loads(line)
        assert row["text"] == rows[note["of"]]["text"]
        assert row["resolution"] != rows[note["of"]]["resolution"]


def test_a_line_cut_short_is_no_json_and_the_other_malformed_lines_are(made: tuple[list[str], dict[str, Any]]) -> None:
    for line, note in planted(made, "malformed"):
        if note["kind"] == "json_cut_short":
            with pytest.raises(json.JSONDecodeError):
                json.loads(line)
        else:
            json.loads(line)


def test_the_command_writes_both_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, truth = tmp_path / "a" / "history.jsonl", tmp_path / "truth.json"
    assert main(["--seed", "3", "--good", "300", "--out", str(out), "--truth", str(truth)]) == 0
    assert len(out.read_text(encoding="utf-8").splitlines()) == json.loads(truth.read_text())["lines"]
    assert "300 good rows" in capsys.readouterr().out


def test_the_command_names_a_path_it_cannot_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["--good", "300", "--out", str(tmp_path / "file" / "history.jsonl")]) == 1
    assert str(tmp_path / "file") in capsys.readouterr().err


def test_the_command_names_the_option_that_is_too_small(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--good", "5", "--out", "x.jsonl"])
    assert "--good" in capsys.readouterr().err
