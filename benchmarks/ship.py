"""Makes the detector that ships with the course: trained as `demo.COURSE` says, in half precision, with its card.

Usage: python benchmarks/ship.py [--run runs/course] [--out data/shapes128.safetensors]
--run: the folder to train in; a run that is there already, whole or cut, is used.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ssdedu import weights
from ssdedu.checkpoints import load_detector
from ssdedu.datasets.shapes import Shapes
from ssdedu.demo import COURSE, run
from ssdedu.evaluate import evaluate_voc
from ssdedu.inference import detect_dataset


def main() -> None:
    """Train, write the file, and measure what comes out of it rather than what went in."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, default=Path("runs/course"))
    parser.add_argument("--out", type=Path, default=Path("data/shapes128.safetensors"))
    options = parser.parse_args()
    about = run(COURSE, options.run)["description"]
    detector = load_detector(options.run / "last.pt")
    weights.save(options.out, detector)
    held_out = Shapes(about["num_held_out"], 1_000_000 + about["seed"])
    found, truths = detect_dataset(weights.load(options.out).model, held_out, bfloat16=False)
    result = evaluate_voc(found, truths, detector.classes)
    card = {
        "what": "small SSD for 128 x 128 px, eight drawn shapes",
        "trained on": f"{about['num_train']:,} scenes of ssdedu.datasets.shapes, seed {about['seed']}",
        "steps": about["settings"]["iterations"],
        "parameters": sum(p.numel() for p in detector.model.parameters()),
        f"mAP on {len(held_out)} held-out scenes, 11 points": round(result.mean_ap, 4),
        "licence": "MIT, as the project: trained on drawings that the project makes itself",
    }
    weights.save(options.out, detector, card)
    print(json.dumps(card, indent=1))


if __name__ == "__main__":
    main()
