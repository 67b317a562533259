"""Makes the detector that ships: the demo's, in half precision, with a card of what was measured.

Usage: python benchmarks/ship.py [--run runs/demo] [--out data/shapes128.safetensors]
--run: the folder of a finished `ssdedu demo`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ssdedu import weights
from ssdedu.checkpoints import load_detector
from ssdedu.datasets.shapes import Shapes
from ssdedu.evaluate import evaluate_voc
from ssdedu.inference import detect_dataset


def main() -> None:
    """Write the file, and measure what comes out of it rather than what went in."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, default=Path("runs/demo"))
    parser.add_argument("--out", type=Path, default=Path("data/shapes128.safetensors"))
    options = parser.parse_args()
    detector = load_detector(options.run / "last.pt")
    about = json.loads((options.run / "metrics.json").read_text())["description"]
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
