"""The course helpers: figures with facts, predict-then-reveal, each exercise against its wrong answers."""

import dataclasses
import inspect
import re
import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from ssdedu import course, priors
from ssdedu.course import exercise, predictions
from ssdedu.course.display import format_value
from ssdedu.course.execute import main
from ssdedu.course.exercises import load, registry
from ssdedu.course.figures import default_boxes as figures

EXERCISES = list(registry().values())
MUTANTS = [(e, m) for e in EXERCISES for m in e.mutants]
NUMBER = re.compile(r"\d[\d,]*\.?\d*(?:e[-+]?\d+)?")


def stub_ellipsis(*args):
    """A docstring."""
    ...


def stub_pass(*args):
    pass


def stub_none(*args):
    return None


def stub_raise(*args):
    raise NotImplementedError


def stub_scaffold(*args):
    first = second = ...
    return first or second


STUBS = [stub_ellipsis, stub_pass, stub_none, stub_raise, stub_scaffold, None, ..., lambda *args: None]


class Hostile:
    """Raises whatever is asked of it."""

    def __getattr__(self, name):
        raise RuntimeError(name)

    def __array__(self, *args, **kwargs):
        raise RuntimeError("array")


WRONG_RESULTS = [
    0,
    -1,
    3.5,
    [],
    [[]],
    "30",
    {"a": 1},
    np.nan,
    np.zeros(3),
    torch.zeros(2, 2),
    object(),
    [1, [2, 3]],
]


def verdict(name, answer):
    return exercise.judge(load(name), answer)


# Importing


def test_importing_the_course_is_light():
    heavy = ("torch", "matplotlib", "IPython")
    code = f"import sys, ssdedu.course; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


# Figures


@pytest.fixture
def shown(monkeypatch):
    """Bundles that `show` would display."""
    import IPython.display

    bundles = []
    monkeypatch.setattr(IPython.display, "display", lambda bundle, raw: bundles.append(bundle))
    return bundles


def figure(size=13, width=6.0):
    fig, ax = plt.subplots(figsize=(width, 2))
    ax.plot([0, 1], [0, 1])
    ax.set_title("title", fontsize=size)
    ax.tick_params(labelsize=12)
    return fig


def test_show_displays_an_image_with_alt_text_and_prints_the_facts(shown, capsys):
    fig = figure()
    course.show(
        fig, 'A line that "rises" <steadily>.', {"boxes": 8732, "IoU": np.float32(0.61538), "map": "fc7"}
    )
    assert capsys.readouterr().out == "boxes: 8,732\nIoU: 0.6154\nmap: fc7\n"
    (bundle,) = shown
    assert 'alt="A line that &quot;rises&quot; &lt;steadily&gt;."' in bundle["text/html"]
    assert "data:image/png;base64,iVBOR" in bundle["text/html"]
    assert bundle["text/plain"] == '[figure] A line that "rises" <steadily>.'
    assert len(bundle["text/html"]) < 15_000
    assert not plt.fignum_exists(fig.number)


@pytest.mark.parametrize(
    ("alt", "facts", "what"),
    [("", {"a": 1}, "alt"), ("  ", {"a": 1}, "alt"), (None, {"a": 1}, "alt"), ("A line.", {}, "facts")],
)
def test_show_refuses_a_figure_without_alt_or_facts(shown, alt, facts, what):
    with pytest.raises(ValueError, match=f"show needs {what}"):
        course.show(figure(), alt, facts)
    assert not shown


@pytest.mark.parametrize("fact", [[1, 2], None, True, np.zeros(2), torch.zeros(1), 1j])
def test_a_fact_is_one_number_or_string(shown, fact):
    with pytest.raises(ValueError, match="one number or one string"):
        course.show(figure(), "A line.", {"fact": fact})


def test_show_refuses_figures_unreadable_at_half_size(shown):
    with pytest.raises(ValueError, match="'title' is 8 points"):
        course.show(figure(size=8), "A line.", {"a": 1})
    with pytest.raises(ValueError, match="14 inches wide"):
        course.show(figure(width=14), "A line.", {"a": 1})


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (7, "7"),
        (24564, "24,564"),
        (np.int64(3), "3"),
        (torch.tensor(4), "4"),
        (2 / 3, "0.6667"),
        (0.2, "0.2"),
        (1e-5, "1e-05"),
        (123456.7, "123,457"),
        (torch.tensor(0.25), "0.25"),
        ("conv4_3", "conv4_3"),
    ],
)
def test_format_value(value, text):
    assert format_value(value) == text


# Predict, then reveal


@pytest.fixture(autouse=True)
def _fresh_predictions(monkeypatch):
    monkeypatch.setattr(predictions, "_predictions", {})


def test_an_unattempted_prediction_reveals_the_value(capsys):
    course.predict("total", "How many boxes?", None, unit="boxes")
    assert "No guess yet" in capsys.readouterr().out
    course.reveal("total", torch.tensor(8732))
    assert capsys.readouterr().out == "How many boxes?\n  computed:   8,732 boxes\n  your guess: none made\n"


@pytest.mark.parametrize(
    ("guess", "value", "says"),
    [
        (8732, 8732, "8,732 boxes, exactly right"),
        (8000, 8732, "8,000 boxes, 732 too low (8%): close"),
        (5000, 8732, "5,000 boxes, 3,732 too low (43%)"),
        (np.float64(20000), 8732, "20,000 boxes, 11,268 too high (129%)"),
        (5, 0, "5 boxes, 5 too high"),
        (0, 0.0, "0 boxes, exactly right"),
    ],
)
def test_reveal_says_how_far_the_guess_was(capsys, guess, value, says):
    course.predict("total", "How many?", guess, unit="boxes")
    course.reveal("total", value)
    assert capsys.readouterr().out.splitlines()[-1] == f"  your guess: {says}"


@pytest.mark.parametrize("guess", ["8732", [1], float("nan"), float("inf"), True, ..., np.zeros(2), Hostile])
def test_a_guess_that_is_no_number_is_remarked_and_counts_as_none(capsys, guess):
    course.predict("total", "How many?", guess)
    assert "A guess is one number" in capsys.readouterr().out
    course.reveal("total", 3)
    assert "none made" in capsys.readouterr().out


def test_reveal_before_predict_keeps_the_answer(capsys):
    course.reveal("total", 8732)
    out = capsys.readouterr().out
    assert 'predict("total"' in out
    assert "8" not in out


def test_authors_mistakes_are_errors():
    with pytest.raises(ValueError, match="name and a question"):
        course.predict(" ", "How many?")
    course.predict("total", "How many?")
    with pytest.raises(ValueError, match="finite number"):
        course.reveal("total", float("nan"))


# Exercises: the register


def test_every_exercise_is_complete():
    assert len({e.name for e in EXERCISES}) == len(EXERCISES) >= 4
    for e in EXERCISES:
        assert e.statement, e.name
        assert len(e.hints) >= 2, e.name
        assert len(e.mutants) >= 3, e.name
        assert all(m.why for m in e.mutants), e.name


def test_an_unknown_name_is_answered_by_the_likely_one(capsys):
    for act in (course.hint, course.solution, lambda name: course.check(name, stub_pass)):
        act("count_box")
        assert "did you mean 'count_boxes'" in capsys.readouterr().out
    with pytest.raises(ValueError, match="percents"):
        course.solution_text("nothing of the sort")


# Exercises: every one of them


def still_accepted(e):
    """Names of the wrong answers that the check lets pass or rejects without the reason."""
    verdicts = [(m, exercise.judge(e, m.function)) for m in e.mutants]
    return [m.function.__name__ for m, v in verdicts if v.status != "wrong" or m.why not in v.message]


@pytest.mark.parametrize("e", EXERCISES, ids=lambda e: e.name)
def test_the_solution_passes_and_every_mutant_is_rejected_with_its_reason(e, capsys):
    assert exercise.judge(e, e.solution) == exercise.Verdict("passed", "")
    assert still_accepted(e) == []


@pytest.mark.parametrize("e", EXERCISES, ids=lambda e: e.name)
def test_a_broken_check_would_be_noticed(e):
    lenient = dataclasses.replace(e, check=lambda answer: None)
    assert len(still_accepted(lenient)) == len(e.mutants)
    mute = dataclasses.replace(e, check=lambda answer: "wrong")
    assert len(still_accepted(mute)) == len(e.mutants)


@pytest.mark.parametrize("e", EXERCISES, ids=lambda e: e.name)
@pytest.mark.parametrize("stub", STUBS)
def test_a_stub_is_not_attempted(e, stub):
    assert exercise.judge(e, stub).status == "not attempted"


@pytest.mark.parametrize("e", EXERCISES, ids=lambda e: e.name)
@pytest.mark.parametrize("result", [*WRONG_RESULTS, Hostile()], ids=lambda r: type(r).__name__)
def test_any_other_result_is_wrong_with_a_reason(e, result):
    got = exercise.judge(e, lambda *args: result)
    assert got.status == "wrong"
    assert len(got.message) > 20


@pytest.mark.parametrize("e", EXERCISES, ids=lambda e: e.name)
@pytest.mark.parametrize(
    "error", [ZeroDivisionError("oops"), SystemExit(1), RecursionError(), AssertionError("no")]
)
def test_no_exception_of_the_learner_escapes(e, error, capsys):
    def answer(*args):
        raise error

    course.check(e.name, answer)
    out = capsys.readouterr().out
    assert out.startswith(f"{e.name}: wrong, because")
    assert f"it raised {type(error).__name__} in line 2 of your function" in out


@pytest.mark.parametrize("e", EXERCISES, ids=lambda e: e.name)
def test_a_wrong_number_of_parameters_is_explained(e):
    got = exercise.judge(e, lambda: 0)
    assert got.status == "wrong"
    assert "TypeError" in got.message


@pytest.mark.parametrize("e", EXERCISES, ids=lambda e: e.name)
def test_a_result_instead_of_a_function_is_explained(e):
    assert "without brackets" in exercise.judge(e, 42).message


def numbers_in(value):
    """Telling numbers (no counts below 10, which appear by chance) in four digits."""
    if isinstance(value, str):
        flat = [float(t.replace(",", "")) for t in NUMBER.findall(value)]
    elif isinstance(value, (list, tuple)):
        return set().union(*map(numbers_in, value))
    else:
        flat = np.asarray(value, dtype=float).ravel().tolist()
    return {f"{v:.4g}" for v in flat if np.isfinite(v) and (v != int(v) or v >= 10)}


@pytest.mark.parametrize(("e", "mutant"), MUTANTS, ids=lambda x: getattr(x, "name", None))
def test_the_message_does_not_tell_the_answer(e, mutant):
    calls = []

    def spy(*args):
        calls.append((args, mutant.function(*args)))
        return calls[-1][1]

    told = numbers_in(exercise.judge(e, spy).message)
    for args, result in calls:
        secret = numbers_in(e.solution(*args)) - numbers_in(list(args)) - numbers_in(result)
        assert not told & secret, (told & secret, args)


@pytest.mark.parametrize("e", EXERCISES, ids=lambda e: e.name)
def test_hints_and_solution(e, capsys):
    for level, text in enumerate(e.hints, start=1):
        course.hint(e.name, level)
        assert capsys.readouterr().out == f"Hint {level} of {len(e.hints)}: {text}\n"
    for level in (0, len(e.hints) + 1, "1", None):
        course.hint(e.name, level)
        assert f"ssdedu solution {e.name}" in capsys.readouterr().out
    course.solution(e.name)
    printed = capsys.readouterr().out
    assert printed.strip() == course.solution_text(e.name).strip()
    assert e.statement in printed
    assert inspect.getsource(e.solution) in printed


@pytest.mark.parametrize("e", EXERCISES, ids=lambda e: e.name)
def test_the_printed_solution_is_complete_and_passes(e):
    """A learner may paste it: names that the notebooks do not import would fail here."""
    space = {"np": np, "torch": torch}
    exec(compile(course.solution_text(e.name), "pasted", "exec", dont_inherit=True), space)
    assert exercise.judge(e, space[e.solution.__name__]).status == "passed"


# Wrong answers that no mutant describes


def test_answers_as_arrays_and_tensors_pass():
    solve = load("centers").solution
    assert verdict("centers", lambda *a: np.array(solve(*a))).status == "passed"
    assert verdict("centers", lambda *a: torch.tensor(solve(*a), requires_grad=True)).status == "passed"
    assert verdict("percents", lambda *a: tuple(load("percents").solution(*a))).status == "passed"


def test_one_wrong_entry_is_found():
    def nearly(*args):
        answer = np.array(load("centers").solution(*args))
        answer[-1, 1] += 0.001
        return answer

    got = verdict("centers", nearly)
    assert got.status == "wrong"
    assert "result[0, 1]" in got.message
    assert "too large (1 of 2 entries differ)" in got.message


def test_only_the_edge_case_missing_is_found():
    solve = load("count_boxes").solution
    got = verdict("count_boxes", lambda maps: solve(maps) if maps else None)
    assert got.status == "wrong"
    assert "([]), no map at all: " in got.message
    assert "return" in got.message


def test_an_answer_that_spoils_its_arguments_does_not_spoil_the_check():
    def greedy(maps):
        total = load("count_boxes").solution(maps)
        maps.clear()
        return total

    assert verdict("count_boxes", greedy).status == "passed"


def test_check_prints_one_line(capsys):
    course.check("count_boxes", stub_ellipsis)
    course.check("count_boxes", load("count_boxes").solution)
    not_yet, passed = capsys.readouterr().out.splitlines()
    assert not_yet.startswith("count_boxes: not attempted")
    assert passed.startswith("count_boxes: passed")


def test_a_check_that_fails_itself_does_not_escape():
    def faulty(answer):
        raise KeyError("author's mistake")

    e = dataclasses.replace(load("reach"), check=faulty)
    assert exercise.judge(e, lambda *args: 0) == exercise.Verdict(
        "wrong", "the result could not be compared (KeyError)"
    )


# Drawings


def test_every_drawing_is_readable_and_shows_what_it_was_given(shown):
    objects, fits = {"dog": (150, 150, 100, 50)}, {"conv8_2": (140, 150, 111, 111)}
    fig = figures.best_fits(objects, fits)
    drawn = [p.get_bbox().bounds for p in fig.axes[0].patches[1:]]
    assert drawn == [(84.5, 94.5, 111, 111), (100, 125, 100, 50)]
    course.show(fig, "An object and its box.", {"objects": 1})
    fig = figures.curves([10, 100], {"best": [0.2, 0.8]}, "px", "IoU", 0.5)
    assert fig.axes[0].lines[0].get_ydata().tolist() == [0.2, 0.8]
    course.show(fig, "A curve.", {"curves": 1})
    fig = figures.reach_map([10, 20], np.array([[0, 0.5], [1, 1]]))
    assert fig.axes[0].collections[0].get_array().ravel().tolist() == [0, 0.5, 1, 1]
    course.show(fig, "A map.", {"sizes": 4})
    fig = figures.reach_map([10, 20], np.ones((2, 2)), {"bottle": (10, 20)})
    assert fig.axes[0].lines[0].get_xydata().tolist() == [[10, 20]]
    assert [t.get_text() for t in fig.axes[0].texts] == ["bottle"]
    course.show(fig, "A map with a bottle.", {"sizes": 4})
    assert len(shown) == 4


@pytest.mark.parametrize("name", sorted(priors.PRESETS))
def test_facts_of_a_strip_are_those_of_the_description(name):
    config = priors.PRESETS[name]
    fig, facts = figures.cell_strip(config, [(level, 0, 0) for level in range(len(config.maps))])
    assert len(fig.axes) == len(config.maps)
    for m in config.maps:
        widths = priors.cell_shapes_px(m, config.whole_px)[:, 0]
        assert facts[f"{m.name}: centres"] == m.height * m.width
        assert facts[f"{m.name}: boxes of one cell"] == m.boxes_per_cell
        assert facts[f"{m.name}: narrowest and widest (px)"] == f"{widths.min():.1f}, {widths.max():.1f}"
    plt.close(fig)


def test_execute_without_a_notebook_prints_its_usage(capsys):
    assert main([]) == 2
    assert "usage" in capsys.readouterr().out
