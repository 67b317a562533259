"""The self-test passes here, and says what to do where a part fails."""

import pytest

from ssdedu import weights
from ssdedu.course import environment


def test_all_parts_work_here(capsys):
    assert environment.self_test() is True
    assert capsys.readouterr().out.splitlines() == [f"{name}: ok" for name in environment.PARTS]


@pytest.mark.parametrize("name", environment.PARTS)
def test_a_part_that_fails_is_named_with_its_remedy_and_the_rest_goes_on(name, monkeypatch, capsys):
    def broken():
        raise ImportError("no such module")

    parts = {
        n: ((broken if n == name else lambda: None), remedy) for n, (_, remedy) in environment.PARTS.items()
    }
    monkeypatch.setattr(environment, "PARTS", parts)
    assert environment.self_test() is False
    out = capsys.readouterr().out.splitlines()
    assert len(out) == len(parts)
    (failed,) = (line for line in out if "FAILED" in line)
    assert failed == f"{name}: FAILED (ImportError: no such module). Remedy: {parts[name][1]}"


def test_an_old_python_an_absent_detector_and_a_broken_check_fail(monkeypatch):
    monkeypatch.setattr("sys.version_info", (3, 9))
    with pytest.raises(RuntimeError, match="older Python"):
        environment._python()
    monkeypatch.undo()
    monkeypatch.setitem(weights.SHIPPED, "shapes", "data/nothing")
    with pytest.raises(FileNotFoundError):
        environment._detector()
    monkeypatch.setattr("ssdedu.course.exercise.judge", lambda e, a: type("V", (), {"status": "wrong"}))
    with pytest.raises(RuntimeError, match="count_boxes"):
        environment._exercises()
