"""Record what a bundle says of a folder of pictures, so that a test notices when it says something else.

python -m training.bundle.record --bundle models/weights --pictures tests/data/fracatlas
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from models.analyzer import Analyzer
from models.bundle import load_bundle
from models.images import read_image


def record(bundle: Path | None, pictures: Path) -> Path:
    """Write `recorded.json` beside the pictures: version and, by name, probability and best box score."""
    analyzer = Analyzer(load_bundle(bundle))
    said = {}
    for path in sorted(pictures.glob("*.jpg")):
        analysis = analyzer.analyze(read_image(path), minimum_score=0.0)
        best = analysis.boxes[0].score if analysis.boxes else 0.0
        said[path.name] = {"probability": round(analysis.probability, 4), "best_score": round(best, 4)}
    out = pictures / "recorded.json"
    out.write_text(json.dumps({"version": analyzer.version, "images": said}, indent=1) + "\n")
    return out


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, help="the bundle's folder; the shipped one if not given")
    parser.add_argument("--pictures", type=Path, required=True)
    given = parser.parse_args()
    print(record(given.bundle, given.pictures))


if __name__ == "__main__":
    main()
