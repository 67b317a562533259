"""Detectors as files of numbers alone: the one that ships, yours to pass on, and other people's."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as to_bytes
from torch import Tensor

from ssdedu import checkpoints, layouts, tensor_files
from ssdedu import shipped as files
from ssdedu.checkpoints import CheckpointError, Detector
from ssdedu.files import write_atomically
from ssdedu.layouts import LAYOUTS, Layout
from ssdedu.model import SSD
from ssdedu.priors import Config
from ssdedu.processing import Processing
from ssdedu.tensor_files import Content, State

__all__ = ["SHIPPED", "about", "data_record", "export", "is_detector", "load", "save", "shipped"]

SHIPPED = {"voc": "data/voc2007_mobilenet.safetensors", "shapes": "data/shapes128.safetensors"}
"""The detectors that ship: "voc" for photos, VOC's 20 classes; "shapes" for drawn scenes, eight shapes."""
_FORMAT = "ssdedu 1"
_DESCRIPTION = "ssdedu detector"  # key in the header of a safetensors file in another layout


def save(path: str | os.PathLike[str], detector: Detector, card: Mapping[str, Any] | None = None) -> None:
    """Write a detector as safetensors: kernels in half precision, all else in single.

    card: what a reader should know (training data, mAP, licence), kept in the file as JSON.
    """
    model = detector.model
    header = {
        "format": _FORMAT,
        "config": json.dumps(model.config.to_dict()),
        "base": model.base_name,
        "classes": json.dumps(list(detector.classes)),
        "processing": json.dumps(model.processing.to_dict()),
        "card": json.dumps(dict(card or {})),
    }
    tensors = {name: _packed(value) for name, value in model.state_dict().items()}
    write_atomically(path, to_bytes(tensors, header))


def _packed(value: Tensor) -> Tensor:
    kernel = value.is_floating_point() and value.ndim == 4
    return value.detach().cpu().to(torch.float16 if kernel else value.dtype).contiguous()


def load(
    source: str | os.PathLike[str] | Mapping[str, Tensor],
    classes: Sequence[str] | None = None,
    config: Config | None = None,
) -> Detector:
    """The detector in a file or a state dict, in single precision, ready to detect; the layout is recognised.

    Reads what `save` and `ssdedu train` wrote, and SSD300 as amdegroot/ssd.pytorch and torchvision save it, for any
    number of classes, strictly, each with its own preprocessing, default boxes and post-processing. classes: names of
    labels 1, 2, ... where such a file says none and its number of classes is not the published one's; they are
    "class 1", ... otherwise. config: other default boxes than the layout's own. Raises CheckpointError that lists the
    keys that do not fit; a file that could run code is refused.
    """
    if isinstance(source, Mapping):
        return _foreign("the state dict", dict(source), {}, classes, config)
    values, header = tensor_files.read(source)
    if _says_what_it_is(values, header):
        if classes is not None or config is not None:
            raise CheckpointError(f"{source}: says itself what its classes and default boxes are")
        return _ours(source, values, header) if header else checkpoints.load_detector(source)
    return _foreign(source, values, header, classes, config)


def is_detector(content: Content) -> bool:
    """Whether `load` reads what `tensor_files.read` found in a file."""
    layout = layouts.find(content.values) if isinstance(content.values, dict) else None
    return _says_what_it_is(*content) or layout is not None


def _says_what_it_is(values: Any, header: Mapping[str, str]) -> bool:
    return header.get("format") == _FORMAT or _is_checkpoint(values)


def _is_checkpoint(values: Any) -> bool:
    return isinstance(values, dict) and "description" in values


def _ours(path: str | os.PathLike[str], tensors: State, header: Mapping[str, str]) -> Detector:
    try:
        classes = tuple(json.loads(header["classes"]))
        model = _hollow(Config.from_dict(json.loads(header["config"])), len(classes) + 1, header["base"])
        model.processing = Processing.from_dict(json.loads(header.get("processing", "{}")))
        _fill(model, tensors)
    except (KeyError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path}: does not fit its own description ({error})") from error
    return _ready(model, classes)


def _hollow(config: Config, num_classes: int, base: str) -> SSD:
    """A network whose parameters and buffers, default boxes aside, have a shape and no memory yet."""
    with torch.device("meta"):
        return SSD(config, num_classes, base)


def _fill(model: SSD, state: State) -> None:
    """Give a hollow network copies of its numbers in its own precision; raises RuntimeError where they do not fit."""
    own = {name: value.dtype for name, value in model.state_dict().items()}
    copies = {name: value.to(own.get(name, value.dtype), copy=True) for name, value in state.items()}
    model.load_state_dict(copies, assign=True)


def _ready(model: SSD, classes: Sequence[str]) -> Detector:
    model = model.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Detector(model, tuple(classes))


def _foreign(
    where: str | os.PathLike[str],
    values: Any,
    header: Mapping[str, str],
    classes: Sequence[str] | None,
    config: Config | None,
) -> Detector:
    try:
        state = tensor_files.as_state(values)
        layout = layouts.find(state)
        if layout is None:
            raise ValueError(f"its keys are none of {', '.join(LAYOUTS)} ({', '.join(list(state)[:3])}, ...)")
        said = json.loads(header.get(_DESCRIPTION, "{}"))
        model = _hollow(config or _config(said, layout), _num_classes(layout, state), "vgg16")
        shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
        input_of = {name: _column(said.get(name, getattr(layout, name))) for name in ("mean", "std")}
        _fill(model, {**layouts.rename(state, layout.keys, shapes), **input_of})
        model.processing = Processing.from_dict(said.get("processing", layout.processing.to_dict()))
        return _ready(model, _names(classes or said.get("classes"), model.num_classes - 1, layout))
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{where}: no detector that can be read: {error}") from error


def _config(said: Mapping[str, Any], layout: Layout) -> Config:
    return Config.from_dict(said["config"]) if "config" in said else layout.config


def _num_classes(layout: Layout, state: State) -> int:
    """C of a state whose keys may still turn out not to fit."""
    key, per_class = layout.num_classes_key
    return max(2, state[key].numel() // per_class) if key in state else 2


def _column(values: Sequence[float]) -> Tensor:
    return torch.tensor(values)[:, None, None]


def _names(classes: Sequence[str] | None, number: int, layout: Layout) -> tuple[str, ...]:
    """Names of labels 1 .. number: those given, else the published file's, else "class 1", ..."""
    if classes is None:
        return (
            layout.classes
            if number == len(layout.classes)
            else tuple(f"class {i + 1}" for i in range(number))
        )
    if len(classes) != number:
        raise ValueError(f"classes has {len(classes)} names, the network {number} classes besides background")
    return tuple(classes)


def export(detector: Detector, path: str | os.PathLike[str], layout: str = "torchvision") -> list[str]:
    """Write a detector's state dict as torchvision or amdegroot names it, which loads strictly there.

    path: tensors alone by torch.save, or safetensors where it ends so, whose header tells `load` the rest. Returns
    what the other program must be told because a state dict does not say it: a line for each of classes, default
    boxes, input and post-processing that is not the layout's own. Raises ValueError for a layout of another name
    and for detectors that have no such layout: another base, or other maps than SSD300's.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"layout must be one of {', '.join(LAYOUTS)}, got {layout!r}")
    chosen, model = LAYOUTS[layout], detector.model
    _check_exportable(model, chosen)
    state = layouts.to_theirs(model.state_dict(), chosen.keys)
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    if Path(path).suffix == ".safetensors":
        header = {"format": "pt", _DESCRIPTION: json.dumps(_description(detector))}
        write_atomically(path, to_bytes(tensors, header))
    else:
        write_atomically(path, lambda file: torch.save(tensors, file))
    return _differences(detector, chosen)


def _check_exportable(model: SSD, layout: Layout) -> None:
    wanted, have = layout.config, model.config
    if model.base_name != "vgg16":
        raise ValueError(f"the {layout.name} layout is for the base vgg16, not for {model.base_name}")
    for i, m in enumerate(wanted.maps):
        mine = have.maps[i] if i < len(have.maps) else None
        if mine is None or (mine.extra, mine.boxes_per_cell) != (m.extra, m.boxes_per_cell):
            raise ValueError(
                f"the {layout.name} layout has SSD300's maps; {have.name}'s map {i + 1} is another"
            )
    if len(have.maps) > len(wanted.maps):
        raise ValueError(
            f"the {layout.name} layout has {len(wanted.maps)} maps, {have.name} has {len(have.maps)}"
        )


def _description(detector: Detector) -> dict[str, Any]:
    model = detector.model
    return {
        "classes": list(detector.classes),
        "config": model.config.to_dict(),
        "mean": model.mean.flatten().tolist(),
        "std": model.std.flatten().tolist(),
        "processing": model.processing.to_dict(),
    }


def _differences(detector: Detector, layout: Layout) -> list[str]:
    """A line for each thing in which the detector is not as the layout's program takes it to be."""
    model, config, theirs = detector.model, detector.model.config, layout.config
    pairs = {
        "classes": [_names_text(detector.classes), _names_text(layout.classes)],
        "input in pixels": [f"{c.width_px} x {c.height_px}" for c in (config, theirs)],
        "default boxes": [_boxes_text(config), _boxes_text(theirs)],
        "variances": [" ".join(f"{v:g}" for v in c.variances) for c in (config, theirs)],
        "mean of the input, 0 .. 255": [_numbers(model.mean), _numbers(_column(layout.mean))],
        "std of the input": [_numbers(model.std), _numbers(_column(layout.std))],
        "resize": [model.processing.resize, layout.processing.resize],
        "post-processing": [_options_text(p) for p in (model.processing, layout.processing)],
    }
    return [
        f"{what}: {mine}; {layout.name}'s own: {other}"
        for what, (mine, other) in pairs.items()
        if mine != other
    ]


def _names_text(classes: Sequence[str]) -> str:
    return f"{len(classes)}, {', '.join(classes[:5])}{', ...' if len(classes) > 5 else ''}"


def _boxes_text(config: Config) -> str:
    sizes = [f"{m.min_px:g} to {m.max_px:g} px" if m.max_px else f"{m.min_px:g} px" for m in config.maps]
    ratios = [" ".join(f"{r:g}" for r in m.aspect_ratios) for m in config.maps]
    steps = ["even" if m.step_px is None else f"{m.step_px:g}" for m in config.maps]
    clip = {"False": "not clipped", "True": "clipped at the border"}.get(
        str(config.clip), f"{config.clip} clamped"
    )
    return f"sizes {', '.join(sizes)}, ratios {', '.join(ratios)}, steps {', '.join(steps)}, {clip}"


def _numbers(values: Tensor) -> str:
    return " ".join(f"{v:.2f}" for v in values.flatten().tolist())


def _options_text(processing: Processing) -> str:
    listed = [f"{name} {value}" for name, value in sorted(processing.options.items())]
    return ", ".join(listed) or "the original's"


def about(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The card of a file that `save` wrote; raises CheckpointError."""
    header = tensor_files.read(path).header
    if header.get("format") != _FORMAT:
        raise CheckpointError(f"{path}: not written by ssdedu.weights.save, or by another version")
    return json.loads(header["card"])


def data_record(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What a checkpoint says of the images it was trained on, as `splits.Splits.record`; {} for other files."""
    if tensor_files.is_safetensors(path) or not _is_checkpoint(tensor_files.read(path).values):
        return {}
    return checkpoints.load_checkpoint(path)["description"].get("data", {})


def shipped(name: str = "voc") -> Detector:
    """A detector that ships, ready to detect; raises ValueError for a name that is not in `SHIPPED`.

    "voc": SSD300's default boxes on MobileNetV1, trained on the photos of VOC2007 at 300 px. "shapes": the demo's
    small net for 128 x 128 px, trained on drawn scenes. `about` gives their cards.
    """
    if name not in SHIPPED:
        raise ValueError(f"no detector called {name!r} ships; known: {', '.join(SHIPPED)}")
    return load(files.find(SHIPPED[name]))
