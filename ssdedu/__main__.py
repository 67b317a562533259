"""The command line: ssdedu demo / train / evaluate / detect / priors / check-data / download / export / solution."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ssdedu import __version__

if TYPE_CHECKING:
    from ssdedu.evaluate import Evaluation

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 1 for findings, 2 for a user's mistake, 130 when interrupted."""
    options = _parser().parse_args(arguments)
    try:
        return options.command(options) or 0
    except (ValueError, OSError, RuntimeError) as error:
        number = _process_number()
        time.sleep(3 if number else 0)  # what the first process says ends all; mostly it is the same
        if options.traceback:
            raise
        print(f"ssdedu: {f'process {number}: ' if number else ''}{_message(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        if not _process_number():
            print(f"\nssdedu: interrupted{options.interrupted(options)}", file=sys.stderr)
        return 130


def _process_number() -> int:
    """This process's number among those that torchrun started, 0 for one alone."""
    return int(os.environ["RANK"]) if "TORCHELASTIC_RUN_ID" in os.environ else 0


def _message(error: BaseException) -> str:
    """The error's own words: the last line where a worker process wraps them in its traceback."""
    lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[-1] if lines[0].startswith("Caught ") else "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ssdedu", description="SSD (Single Shot MultiBox Detector): learn it, train it, use it."
    )
    parser.add_argument("--version", action="version", version=f"ssdedu {__version__}")
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in (_demo, _train, _evaluate, _detect, _priors, _check_data, _download, _export, _solution):
        add(commands)
    return parser


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Shows the defaults that are values."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return (
            action.help
            if action.default is None or action.default is False
            else super()._get_help_string(action)
        )


def _command(
    commands: argparse._SubParsersAction,
    name: str,
    run: Callable[[argparse.Namespace], int | None],
    about: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=about, description=about, formatter_class=_Help)
    parser.set_defaults(command=run, interrupted=lambda options: "")
    return parser


def _not_negative(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"must be 0 or more, got {text}")
    return value


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, got {text}")
    return value


def _size(text: str) -> tuple[int, int]:
    """300 or 500x300 as (width, height)."""
    try:
        numbers = [int(part) for part in text.lower().split("x")]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2) or min(numbers) < 1:
        raise argparse.ArgumentTypeError(f"must be a side or WIDTHxHEIGHT in pixels, got {text!r}")
    return numbers[0], numbers[-1]


def _demo(commands: argparse._SubParsersAction) -> None:
    p = _command(
        commands, "demo", _run_demo, "draw scenes, train the small SSD on them, measure it and show it"
    )
    p.set_defaults(interrupted=_demo_interrupted)
    p.add_argument(
        "--out",
        help="folder for the results; default: runs/demo, for another seed and so on runs/demo-seed1 ...",
    )
    p.add_argument(
        "--seed", type=_not_negative, default=0, help="names scenes, augmentation and initial weights"
    )
    p.add_argument("--steps", type=_positive, help="fewer or more training steps than the recipe's")
    p.add_argument(
        "--one-map",
        type=int,
        choices=(8, 4),
        metavar="CELLS",
        help="predict from the map of 8 x 8 or of 4 x 4 cells alone, for comparison",
    )
    p.add_argument("--fresh", action="store_true", help="start anew even if the same run is done already")


def _run_demo(options: argparse.Namespace) -> None:
    from ssdedu.demo import Demo, run

    demo = Demo(options.seed)
    demo = demo.one_map(options.one_map) if options.one_map else demo
    demo = demo.short(options.steps) if options.steps else demo
    out = _demo_folder(options)
    metrics = run(demo, out, options.fresh)
    print(f"\nmAP {metrics['mean_ap']:.3f} (VOC07, 11 points, IoU 0.5) on scenes never seen in training")
    print(f"trained in {metrics['seconds']['training']:.0f} s; everything is in {out}")
    print(f"next: open {out / 'index.html'} in a browser, then notebooks/00_start_here.ipynb")


def _demo_folder(options: argparse.Namespace) -> Path:
    """--out, or a folder of its own for each kind of demo, so that none takes the place of another."""
    if options.out:
        return Path(options.out)
    kinds = [f"one-map{options.one_map}"] if options.one_map else []
    kinds += [f"seed{options.seed}"] if options.seed else []
    kinds += [f"steps{options.steps}"] if options.steps else []
    return Path("runs", "-".join(["demo", *kinds]))


def _demo_interrupted(options: argparse.Namespace) -> str:
    return (
        "; the same command" + (" without --fresh" if options.fresh else "") + " goes on from what is saved."
    )


def _data_options(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--skip-bad",
        action="store_true",
        help="leave out broken objects and images, and list them; decodes every image first",
    )
    _device_option(p)


def _device_option(p: argparse.ArgumentParser) -> None:
    p.add_argument("--device", default="auto", help="cpu, cuda, or auto for a GPU where there is one")


_FOLDER = "VOC-layout folder: Annotations/, JPEGImages/, ImageSets/Main/ where there are splits"


def _train(commands: argparse._SubParsersAction) -> None:
    p = _command(commands, "train", _run_train, "train a detector on VOC-layout folders and report its mAP")
    p.epilog = "On several GPUs: torchrun --nproc-per-node GPUS -m ssdedu train FOLDER ..."
    p.set_defaults(interrupted=_train_interrupted)
    p.add_argument(
        "folder",
        nargs="+",
        metavar="FOLDER",
        help=f"{_FOLDER}; several, as VOC2007 VOC2012, are one data set",
    )
    _data_options(p)
    p.add_argument(
        "--detector", default="small", help="shapes, small, mobilenet, ssd300, ssd512 or ssd300-bn"
    )
    p.add_argument(
        "--priors",
        metavar="FILE",
        help="priors.json of `ssdedu priors DETECTOR --fit`: other default boxes for it",
    )
    p.add_argument(
        "--base-weights", metavar="FILE", help="weights of a classifier from which the base network starts"
    )
    p.add_argument(
        "--size", type=_size, help="input of the network in pixels, 300 or 500x300; default: the detector's"
    )
    p.add_argument(
        "--split", help="split to train on; default: trainval, else train, else 80 %% of the images"
    )
    p.add_argument(
        "--test-split",
        help="split to measure on, kept out of training; default: test, else val, else the other 20 %%",
    )
    p.add_argument("--out", default="runs/train", help="folder for checkpoint, log and metrics")
    p.add_argument("--steps", type=_positive, help="training steps; default: the detector's recipe")
    p.add_argument("--batch-size", type=_positive, help="images a step, of all processes together")
    p.add_argument("--lr", type=float, help="learning rate")
    p.add_argument("--warmup", type=_not_negative, help="steps in which the rate rises")
    p.add_argument("--clip-norm", type=float, help="largest norm of the gradient")
    p.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16", "float16"),
        help="of the network's forward pass; auto takes what the processor is fast in",
    )
    p.add_argument(
        "--compile", action="store_true", default=None, help="torch.compile: minutes first, faster then"
    )
    p.add_argument(
        "--workers", type=_not_negative, help="processes that load and augment; default: all cores but two"
    )
    p.add_argument(
        "--cache-mb", type=_not_negative, default=1000, help="megabytes for decoded images on each machine"
    )
    p.add_argument("--seed", type=_not_negative, help="names order, augmentation and initial weights")
    p.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")


def _run_train(options: argparse.Namespace) -> None:
    from ssdedu.distributed import process_group
    from ssdedu.workshop import train_on_folder

    fields = ("batch_size", "lr", "warmup", "clip_norm", "precision", "compile", "workers", "seed")
    with process_group():
        evaluation = train_on_folder(
            options.folder,
            options.out,
            detector=options.detector,
            description=options.priors,
            base_weights=options.base_weights,
            size_px=options.size,
            splits=(options.split, options.test_split),
            device=options.device,
            skip_bad=options.skip_bad,
            resume=options.resume,
            cache_mb=options.cache_mb,
            changes={"iterations": options.steps, **{name: getattr(options, name) for name in fields}},
        )
        _print_evaluation(evaluation)
        last = Path(options.out) / "last.pt"
        print(f"detector: {last}; next: ssdedu detect PICTURE --checkpoint {last}")


def _train_interrupted(options: argparse.Namespace) -> str:
    if any((Path(options.out) / name).is_file() for name in ("last.pt", "previous.pt")):
        return "; the same command with --resume goes on from the last checkpoint."
    return " before the first checkpoint; the same command starts anew."


def _print_evaluation(evaluation: Evaluation) -> None:
    width = max(map(len, evaluation.classes))
    for curve, ap in zip(evaluation.curves, evaluation.ap, strict=True):
        print(f"{curve.name:{width}}  AP {ap:.3f}  objects {curve.num_objects}")
    print(f"mAP {evaluation.mean_ap:.3f} ({evaluation.metric}, IoU {evaluation.iou_threshold:g})")


def _evaluate(commands: argparse._SubParsersAction) -> None:
    p = _command(commands, "evaluate", _run_evaluate, "measure a trained detector on a VOC-layout folder")
    p.add_argument("checkpoint", help="last.pt of a training run, or other people's SSD300 as .pth")
    p.add_argument("folder", metavar="FOLDER", help=_FOLDER)
    _data_options(p)
    p.add_argument(
        "--split",
        help="split to measure on; default: the images held out in training, in another folder test, else val, "
        "else all images",
    )
    p.add_argument(
        "--metric", choices=("voc07", "area"), default="voc07", help="11 points, or area under the curve"
    )
    p.add_argument("--comp3", help="folder for result files in VOC's comp3 format")
    p.add_argument("--json", help="file for the numbers")


def _run_evaluate(options: argparse.Namespace) -> None:
    from ssdedu.distributed import process_group
    from ssdedu.workshop import evaluate_on_folder

    with process_group():
        evaluation = evaluate_on_folder(
            options.checkpoint,
            options.folder,
            options.split,
            options.metric,
            skip_bad=options.skip_bad,
            comp3=options.comp3,
            report=options.json,
            device=options.device,
        )
        _print_evaluation(evaluation)


def _detect(commands: argparse._SubParsersAction) -> None:
    p = _command(commands, "detect", _run_detect, "look for objects in pictures; writes pictures and JSON")
    p.add_argument("images", nargs="+", metavar="IMAGE", help="picture files")
    p.add_argument(
        "--checkpoint",
        metavar="FILE",
        help="file with a detector, such as last.pt; default: the one that ships, for VOC's 20 classes",
    )
    _device_option(p)
    p.add_argument("--out", default="runs/detect", help="folder for the results")
    p.add_argument("--score", type=float, default=0.5, help="smallest score that is drawn and written")


def _run_detect(options: argparse.Namespace) -> None:
    from ssdedu import shipped, weights
    from ssdedu.workshop import detect_in_files

    checkpoint = options.checkpoint or shipped.find(weights.SHIPPED["voc"])
    results = detect_in_files(options.images, checkpoint, options.out, options.score, options.device)
    for path, found, names in results:
        listing = ", ".join(f"{n} {float(s):.2f}" for n, s in zip(names, found.scores, strict=True))
        print(f"{path}: {listing or 'nothing above the score'}")


def _priors(commands: argparse._SubParsersAction) -> None:
    about = "print a detector's default boxes as a table, or measure how they fit a data set"
    p = _command(commands, "priors", _run_priors, about)
    p.add_argument(
        "name",
        nargs="?",
        default="SSD300_VOC",
        help="a description, such as SSD300_VOC, or a detector of `ssdedu train`, such as small; 'all' for all tables",
    )
    fit = p.add_argument_group("to measure how they fit a data set")
    fit.add_argument(
        "--fit",
        nargs="+",
        metavar="FOLDER",
        help=f"{_FOLDER}; prints how many objects have a default box that fits",
    )
    fit.add_argument("--split", help="split to measure on; default: trainval, else train, else all images")
    fit.add_argument("--threshold", type=float, default=0.5, help="IoU from which a default box fits")
    fit.add_argument(
        "--skip-bad", action="store_true", help="leave out broken objects and images, and list them"
    )
    fit.add_argument(
        "--out", default="runs/priors", help="folder for fit.txt, fit.png, priors.py and priors.json"
    )


def _run_priors(options: argparse.Namespace) -> None:
    from ssdedu import priors_text

    if not options.fit:
        if options.split or options.skip_bad:
            raise ValueError("--split and --skip-bad say how to read a data set; name one with --fit FOLDER")
        print(priors_text.tables(options.name))
        return
    from ssdedu.coverage_report import FILES, fit_folders

    config = priors_text.named(options.name)
    choices = options.split, options.threshold, options.skip_bad
    print(fit_folders(config, options.fit, options.out, *choices))
    print(f"\nwritten: {', '.join(str(Path(options.out) / name) for name in FILES)}")
    print(f"with other sides: ssdedu train FOLDER --detector NAME --priors {Path(options.out) / FILES[-1]}")


def _check_data(commands: argparse._SubParsersAction) -> None:
    p = _command(
        commands, "check-data", _run_check_data, "read a VOC-layout folder and list all that is wrong with it"
    )
    p.add_argument("folder", help="VOC-layout folder")
    p.add_argument("--split", help="split to read; default: all images")
    p.add_argument("--no-decode", action="store_true", help="do not decode the pictures: faster, finds less")


def _run_check_data(options: argparse.Namespace) -> int:
    from ssdedu.datasets.voc import check_folder

    report = check_folder(options.folder, options.split, decode=not options.no_decode)
    print(report)
    return 0 if report.ok else 1


def _download(commands: argparse._SubParsersAction) -> None:
    about = "fetch data sets and published weights: from several mirrors, resumed, verified, unpacked safely"
    p = _command(commands, "download", _run_download, about)
    p.set_defaults(interrupted=lambda options: "; the same command goes on from what is there.")
    p.add_argument("names", nargs="*", metavar="NAME", help="such as voc2007 voc2012 vgg16; --list shows all")
    p.add_argument("--list", action="store_true", help="show what there is, and what of it is in --to")
    p.add_argument("--to", default="data", metavar="FOLDER", help="where to put it")
    p.add_argument(
        "--mirror",
        metavar="URL",
        help="address with these files by their names, tried before the published ones; so is the environment "
        "variable SSDEDU_MIRROR",
    )
    p.add_argument(
        "--catalogue", metavar="FILE", help="JSON file with more to download; ssdedu.catalogue says how"
    )
    p.add_argument("--keep", action="store_true", help="keep the archives when they are unpacked")


def _run_download(options: argparse.Namespace) -> None:
    from ssdedu.catalogue import CATALOGUE, read_catalogue
    from ssdedu.download import download, listing

    catalogue = {**CATALOGUE, **(read_catalogue(options.catalogue) if options.catalogue else {})}
    if options.list:
        print(listing(options.to, catalogue))
        return
    places = download(
        options.names, options.to, mirror=options.mirror, catalogue=catalogue, keep=options.keep
    )
    folders = [str(path) for found in places.values() for path in found if path.is_dir()]
    if folders:
        print(f"next: ssdedu train {' '.join(folders)}")


def _export(commands: argparse._SubParsersAction) -> None:
    about = "write a detector as an ONNX file, kept only if onnxruntime gives PyTorch's numbers, or for another program"
    p = _command(commands, "export", _run_export, about)
    p.add_argument(
        "checkpoint", nargs="?", help="file with a detector, such as last.pt; default: the one that ships"
    )
    p.add_argument(
        "out", metavar="OUT", help="file to write: OUT.onnx, with --layout OUT.pth or OUT.safetensors"
    )
    p.add_argument(
        "--layout",
        choices=("torchvision", "amdegroot"),
        help="no ONNX: the weights of a VGG16-SSD300 as this other program names them",
    )
    p.add_argument(
        "--nms",
        action="store_true",
        help="give the detections too: best boxes after suppression, at most 200 an image",
    )
    p.add_argument("--float", action="store_true", help="take images as float32 in 0 .. 255 instead of uint8")
    p.add_argument("--photo", help="picture to compare on; default: one that ships")


def _run_export(options: argparse.Namespace) -> None:
    if options.layout:
        _export_layout(options)
        return
    from ssdedu.onnx_export import export_file

    choices = {"nms": options.nms, "float_images": options.float}
    print(export_file(options.checkpoint, options.out, options.photo, **choices))


def _export_layout(options: argparse.Namespace) -> None:
    from ssdedu import shipped, weights

    source = options.checkpoint or shipped.find(weights.SHIPPED["voc"])
    differences = weights.export(weights.load(source), options.out, options.layout)
    print(f"{options.out}: state dict in the layout of {options.layout}")
    for line in differences:
        print(f"tell the other program: {line}")


def _solution(commands: argparse._SubParsersAction) -> None:
    p = _command(commands, "solution", _run_solution, "print the solution of one of the course's exercises")
    p.add_argument("name", help='the exercise\'s name, as in check("name", ...)')


def _run_solution(options: argparse.Namespace) -> None:
    from ssdedu.course import solution_text

    print(solution_text(options.name))


if __name__ == "__main__":
    sys.exit(main())
