"""The migration job says which variable it misses and which database refuses."""

from pathlib import Path

import pytest

from libs.outbox.__main__ import main


def test_without_a_url_the_job_names_the_variables(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("PAWL_REGISTRY_DATABASE_URL", "PAWL_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    assert main(["migrate", "registry"]) == 1
    assert "set PAWL_REGISTRY_DATABASE_URL, PAWL_DATABASE_URL or --url" in capsys.readouterr().err


def test_a_database_that_cannot_be_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["migrate", "registry", "--url", "mysql://x/y"]) == 1
    assert capsys.readouterr().err.splitlines() == ["migrate registry: mysql is neither sqlite nor postgresql"]
    assert main(["migrate", "registry", "--url", f"sqlite:///{tmp_path}/file/x.db"]) == 1
    assert "cannot use" in capsys.readouterr().err
