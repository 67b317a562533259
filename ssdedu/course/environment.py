"""The self-test of a learner's machine: each part of the course is used once, and a failure names its remedy."""

from __future__ import annotations

import sys
from collections.abc import Callable

__all__ = ["PARTS", "self_test"]

_REINSTALL = "run `pip install -e .` in the folder of the clone, then restart the kernel"


def _python() -> None:
    if sys.version_info < (3, 11):  # noqa: UP036  (a clone may be run without being installed)
        raise RuntimeError("this is an older Python")


def _torch() -> None:
    import torch

    image, kernel = torch.arange(9.0).view(1, 1, 3, 3), torch.ones(1, 1, 3, 3)
    if torch.nn.functional.conv2d(image, kernel).item() != 36:
        raise RuntimeError("a convolution gives a wrong number")


def _scenes() -> None:
    from ssdedu.datasets.shapes import Shapes

    truth = Shapes(1)[0].truth
    if len(truth.labels) == 0 or not (truth.boxes_xyxy[:, 2:] > truth.boxes_xyxy[:, :2]).all():
        raise RuntimeError("a scene was drawn wrongly")


def _detector() -> None:
    from ssdedu import weights
    from ssdedu.datasets.shapes import Shapes
    from ssdedu.inference import detect_images

    scene = Shapes(1, seed=1_000_000)[0]
    found = detect_images(weights.shipped("shapes").model, [scene.image])[0]
    if not (found.scores > 0.5).any():
        raise RuntimeError("the shipped detector finds nothing in a scene in which it should")


def _figures() -> None:
    import matplotlib.pyplot as plt

    plt.close(plt.figure())


def _widgets() -> None:
    import anywidget
    import ipywidgets

    if not issubclass(anywidget.AnyWidget, ipywidgets.DOMWidget):
        raise RuntimeError("anywidget does not fit ipywidgets")


def _exercises() -> None:
    from ssdedu.course.exercise import judge
    from ssdedu.course.exercises import registry

    failed = [e.name for e in registry().values() if judge(e, e.solution).status != "passed"]
    if failed:
        raise RuntimeError(f"checks refuse their own solution: {', '.join(failed)}")


PARTS: dict[str, tuple[Callable[[], None], str]] = {
    "Python 3.11 or later": (_python, "install a newer Python and make a new environment with it"),
    "torch computes a convolution": (_torch, _REINSTALL),
    "scenes are drawn": (_scenes, "opencv-python-headless 5 is needed: " + _REINSTALL),
    "the shipped detector detects": (_detector, "is data/shapes128.safetensors there? Else clone anew"),
    "figures": (_figures, _REINSTALL),
    "sliders": (_widgets, "pip install anywidget ipywidgets, then restart the kernel and reload the page"),
    "the exercises' checks accept their solutions": (_exercises, _REINSTALL),
}
"""What is tested: a name, a function that raises when it fails, and what to do then."""


def self_test() -> bool:
    """Print a line for each part of the course, "ok" or what is wrong and the remedy; True if all is well."""
    passed = [_line(name, *part) for name, part in PARTS.items()]
    return all(passed)


def _line(name: str, test: Callable[[], None], remedy: str) -> bool:
    try:
        test()
    except Exception as error:
        print(f"{name}: FAILED ({type(error).__name__}: {error}). Remedy: {remedy}")
        return False
    print(f"{name}: ok")
    return True
