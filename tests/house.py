"""The measures of the code's structure: `make house` prints them as a Markdown table.

Rooms are the folders of a package; imports point from a higher room to a lower one, in the order of import-linter's
contracts (`pyproject.toml`).
"""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

import grimp
import networkx as nx

from worker.settings.settings import PREFIX, Settings

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("dicom_io", "models", "training", "worker")
PROSE = (
    "README.md",
    "docs/operations.md",
    "docs/database.md",
    "docs/dicom-conformance.md",
    "docs/commands.md",
    "docs/settings.md",
)


@dataclass(frozen=True)
class Room:
    """Python files of a folder, and their lines."""

    name: str
    lines: tuple[int, ...]


def tracked(*folders: str) -> list[Path]:
    """Return the Python files below these folders that git knows."""
    answer = subprocess.run(["git", "ls-files", "-z", "--", *folders], cwd=ROOT, check=True, capture_output=True)
    return [ROOT / name for name in answer.stdout.decode().split("\0") if name.endswith(".py")]


def lines(files: list[Path]) -> tuple[int, ...]:
    return tuple(len(file.read_text(encoding="utf-8").splitlines()) for file in files)


def rooms() -> Iterator[Room]:
    """Yield the rooms in the order of the contracts, from the top down; a package's own files come last."""
    for package in ("worker", "training", "dicom_io", "models"):
        files = tracked(package)
        places = [ROOT / package / name for name in ordered(package)]
        folders = sorted({file.parent for file in files}, key=lambda folder: _order(folder, places))
        for folder in folders:
            name = folder.relative_to(ROOT).as_posix()
            yield Room(name, lines([file for file in files if file.parent == folder]))


def _order(folder: Path, places: list[Path]) -> tuple[int, str]:
    """Return where a folder stands among the layers of its package; the package itself comes last."""
    above = [number for number, place in enumerate(places) if folder.is_relative_to(place)]
    return (above[0] if above else len(places), folder.as_posix())


def contracts() -> dict[str, list[list[str]]]:
    """Return for each package its layers, from the top down: the names that stand beside each other."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    return {
        contract["containers"][0]: [[name.strip() for name in layer.split("|")] for layer in contract["layers"]]
        for contract in settings["contracts"]
        if "containers" in contract
    }


def ordered(package: str) -> list[str]:
    return [name for layer in contracts().get(package, []) for name in layer]


def part(module: str) -> tuple[str, str]:
    """Return package and room of a module, or package and module where it lies in no room."""
    names = module.split(".")
    return names[0], names[1] if len(names) > 1 else ""


def arrows(graph: grimp.ImportGraph) -> set[tuple[str, str]]:
    """Return the pairs of modules of which the first imports the second."""
    return {(one, other) for one in graph.modules for other in graph.find_modules_directly_imported_by(one)}


def upward(pairs: set[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the imports from a lower room to a higher one, or between rooms that stand beside each other."""
    places = {
        (package, name): number
        for package, layers in contracts().items()
        for number, layer in enumerate(layers)
        for name in layer
    }
    return [
        (one, other)
        for one, other in pairs
        if part(one) != part(other)
        and part(one)[0] == part(other)[0]
        and places.get(part(one), -1) >= places.get(part(other), len(places))
    ]


def circles(pairs: set[tuple[str, str]]) -> list[set[str]]:
    """Return the groups of modules that import one another in a circle."""
    return [group for group in nx.strongly_connected_components(nx.DiGraph(pairs)) if len(group) > 1]


def body_lines(files: list[Path]) -> list[int]:
    """Return the lines of each function's body, its docstring left out."""
    lengths = []
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
                lengths.append((body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0)
    return lengths


def settings_without_prose() -> tuple[int, list[str]]:
    """Return how many settings there are, and those that no document for administrators names."""
    prose = "\n".join((ROOT / name).read_text(encoding="utf-8") for name in PROSE)
    known = set(re.findall(r"`(\w+)`", prose)) | {name.lower() for name in re.findall(rf"\b{PREFIX}(\w+)\b", prose)}
    return len(Settings.model_fields), [name for name in Settings.model_fields if name not in known]


def main() -> None:
    """Print the tables."""
    files = tracked(*PACKAGES)
    graph = grimp.build_graph(*PACKAGES)
    pairs = arrows(graph)
    print("| room | files | lines | median lines a file |\n|---|---|---|---|")
    for room in rooms():
        print(f"| `{room.name}` | {len(room.lines)} | {sum(room.lines)} | {median(room.lines):.0f} |")
    settings, unexplained = settings_without_prose()
    between = {(part(one), part(other)) for one, other in pairs if part(one) != part(other)}
    measures = {
        "product: files": len(files),
        "product: lines": sum(lines(files)),
        "tests: lines": sum(lines(tracked("tests"))),
        "arrows between rooms": len(between),
        "upward imports": len(upward(pairs)),
        "circles of files": len(circles(pairs)),
        "settings": settings,
        "settings in no prose": len(unexplained),
        "function bodies, median lines": f"{median(body_lines(files)):.0f}",
        "function bodies, 90th percentile": f"{quantiles(body_lines(files), n=10)[-1]:.0f}",
    }
    print("\n| measure | now |\n|---|---|")
    for name, value in measures.items():
        print(f"| {name} | {value} |")
    for title, found in (("upward", upward(pairs)), ("circle", circles(pairs)), ("in no prose", unexplained)):
        for each in found:
            print(f"{title}: {each}")


if __name__ == "__main__":
    main()
