"""The benchmark of imports goes its way in miniature, and reads Python's own account of imports."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import bench_import


def test_in_miniature(tmp_path, capsys):
    path = tmp_path / "import.json"
    bench_import.main(["--tiny", "--out", str(path)])
    result = json.loads(path.read_text())
    assert set(result["held"]) == {"import ssdedu", "ssdedu priors --help"}
    row = result["held"]["import ssdedu"]
    assert row["heavy"] == []
    assert row["wall_ms"]["runs"] == row["cpu_ms"]["runs"] == 1
    assert result["beside"]["python -c pass"]["wall_ms"]["runs"] == 1
    assert result["machine"]["cores"] >= 1
    assert "import ssdedu" in capsys.readouterr().out


def test_every_command_of_the_command_line_is_measured(tmp_path):
    typed = bench_import.commands(tmp_path)
    assert {f"ssdedu {name} --help" for name in bench_import.COMMANDS} <= set(typed)
    assert all(arguments[0] for arguments in typed.values())
    assert (tmp_path / "voc" / "Annotations").is_dir()


def test_heavy_packages_and_the_profile_are_what_python_says_it_imports():
    command = [sys.executable, "-c", "import colorsys, numpy"]
    assert bench_import.heavy(command) == ["numpy"]
    parts = bench_import.profile(command)
    assert parts["numpy"] > 0
    assert len(parts) == 8
    assert parts["all else"] > 0


def test_a_command_that_fails_is_no_measurement():
    command = bench_import.Command([sys.executable, "-c", "raise SystemExit(3)"])
    with pytest.raises(subprocess.CalledProcessError, match="exit status 3"):
        command()
    assert command.cpu == []
