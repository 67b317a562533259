"""What starts at once: nothing waits for torch, matplotlib or OpenCV that does not need them. Each in a new process."""

import subprocess
import sys

from ssdedu.datasets.shapes import Shapes

HEAVY = ("torch", "matplotlib", "cv2", "numpy", "PIL", "tqdm")
COMMANDS = ("demo", "train", "evaluate", "detect", "priors", "check-data", "download", "export", "solution")
NUMPY_ONLY = (
    "augment", "box_table", "catalogue", "comp3", "course", "course.figures.ablations",
    "course.figures.augmentation", "course.figures.default_boxes", "course.figures.encoding",
    "course.figures.error_analysis", "course.figures.evaluation", "course.figures.hard_negative_mining",
    "course.figures.loss", "course.figures.network", "course.figures.receptive_fields",
    "course.figures.start_here", "course.figures.training", "course.figures.voc", "crops", "datasets.cached",
    "datasets.shapes", "datasets.voc", "distort", "download", "errors", "evaluate", "extract", "fetch", "files",
    "map_fields", "priors", "priors_text", "processing", "receptive_field", "sample", "shipped", "splits",
    "stopping", "transfer", "widgets.crop_explorer", "widgets.precision_recall_explorer",
    "widgets.receptive_field_explorer", "widgets.score_explorer",
)  # fmt: skip


def imported(code):
    """Which of HEAVY a new process has imported when it has run the code."""
    code += f"\nimport sys\nprint('imported:', *(m for m in {HEAVY} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split()[1:])


def commands(*several):
    """Code that runs commands as they are typed, one after the other; help ends by SystemExit(0)."""
    tries = "try:\n    assert main({}) == 0\nexcept SystemExit as stop:\n    assert not stop.code"
    return "\n".join(["from ssdedu.__main__ import main", *(tries.format(list(each)) for each in several)])


def test_the_package_and_every_help_text_import_nothing():
    assert imported("import ssdedu") == set()
    helps = [(name, "--help") for name in COMMANDS]
    assert imported(commands(("--help",), ("--version",), *helps)) == set()


def test_a_table_of_default_boxes_needs_numpy_alone():
    assert imported(commands(("priors",), ("priors", "all"))) == {"numpy"}


def test_a_list_of_downloads_needs_numpy_at_most(tmp_path):
    """It looks into a folder that may hold VOC: its files by name and size, none of them decoded."""
    (tmp_path / "VOCdevkit" / "VOC2007" / "ImageSets" / "Main").mkdir(parents=True)
    assert imported(commands(("download", "--list", "--to", str(tmp_path)))) <= {"numpy"}


def test_a_folder_is_checked_without_torch(tmp_path):
    Shapes(2, seed=0).write_voc(tmp_path, "trainval")
    assert not imported(commands(("check-data", str(tmp_path)))) & {"torch", "matplotlib"}


def test_plots_wait_for_matplotlib_alone(tmp_path):
    code = f"""
import sys
from types import SimpleNamespace
import numpy as np
from ssdedu import plots
from ssdedu.evaluate import DetectionArrays, evaluate_voc
from ssdedu.sample import Sample, Truth
image, none = np.zeros((4, 4, 3), np.uint8), np.zeros((0, 4), np.float32)
objects = np.array([[0, 0, 1, 1]], np.float32), np.array([1]), np.array([False])
truth, found = Truth(*objects, 4, 4), DetectionArrays(none, none[:, 0], np.zeros(0, int))
figures = [
    plots.loss_curve([{{"step": 1, "confidence": 2.0, "localization": 1.0}}]),
    plots.pr_curves(evaluate_voc([found], [truth], ["a"])),
    plots.gallery([Sample(image, *objects)], [SimpleNamespace(above=lambda score: found)], ["a"]),
]
plots.save(figures[0], {str(tmp_path / "figure.png")!r})
assert "matplotlib.pyplot" not in sys.modules
"""
    assert imported(code) == {"matplotlib", "numpy", "PIL"}


def test_modules_that_compute_with_numpy_import_neither_torch_nor_matplotlib():
    names = ", ".join(f"ssdedu.{name}" for name in NUMPY_ONLY)
    assert not imported(f"import {names}") & {"torch", "matplotlib"}
