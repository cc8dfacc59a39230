import hashlib
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.bundle import load_bundle, read_manifest
from models.types import BundleError
from tests.bundles import describe, tiny_manifest, write_manifest, write_tiny_bundle


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tiny_bundle(tmp_path / "bundle")


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    """Change the detector's tensors and make the manifest agree with the new file."""
    tensors = load_file(folder / "detector.safetensors")
    change(tensors)
    save_file(tensors, folder / "detector.safetensors")
    write_manifest(folder, tiny_manifest(folder))


def test_a_whole_bundle_loads_with_one_trunk_its_card_and_its_version(folder: Path) -> None:
    bundle = load_bundle(folder)

    assert bundle.classifier_trunk is bundle.detector_trunk
    assert bundle.card == "A test bundle.\n"
    assert bundle.version.startswith("2026-01-01-tiny+")
    assert not any(parameter.requires_grad for parameter in bundle.detector.parameters())


def test_the_loaded_weights_are_those_of_the_file(folder: Path) -> None:
    stored = load_file(folder / "classifier.safetensors")

    loaded = load_bundle(folder).classifier.state_dict()

    assert stored.keys() == loaded.keys()
    assert all(torch.equal(stored[name].float(), loaded[name]) for name in stored)


def test_a_calibration_of_any_box_has_a_version_of_its_own_and_one_without_the_field_keeps_its(folder: Path) -> None:
    before = read_manifest(folder).version
    content = json.loads((folder / "bundle.json").read_text())
    versions = []
    for any_box in (None, False, True):
        calibration = {key: value for key, value in content["calibration"].items() if key != "any_box"}
        calibration |= {} if any_box is None else {"any_box": any_box}
        (folder / "bundle.json").write_text(json.dumps(content | {"calibration": calibration}))
        versions.append(read_manifest(folder).version)
    assert versions[:2] == [before, before]
    assert versions[2] != before


def test_the_version_changes_with_the_points_and_the_weights_but_not_with_the_metrics(folder: Path) -> None:
    before = read_manifest(folder).version
    manifest = tiny_manifest(folder)
    manifest["metrics"] = {"auc": 0.9}
    write_manifest(folder, manifest)
    assert read_manifest(folder).version == before

    manifest["decision"]["low"] = 0.1
    write_manifest(folder, manifest)
    assert read_manifest(folder).version != before

    rewrite(folder, lambda tensors: tensors["pyramid.inner_blocks.0.1.bias"].add_(1))
    assert read_manifest(folder).version != before


def test_a_changed_byte_is_refused(folder: Path) -> None:
    path = folder / "trunk.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)

    with pytest.raises(BundleError, match=r"trunk\.safetensors does not match its SHA-256"):
        load_bundle(folder)


def test_a_shortened_file_is_refused(folder: Path) -> None:
    path = folder / "trunk.safetensors"
    path.write_bytes(path.read_bytes()[:-1])

    with pytest.raises(BundleError, match="bytes instead of"):
        load_bundle(folder)


def test_a_missing_file_is_refused(folder: Path) -> None:
    (folder / "detector.safetensors").unlink()

    with pytest.raises(BundleError, match=r"detector\.safetensors is missing"):
        load_bundle(folder)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda tensors: tensors.pop("pyramid.inner_blocks.0.0.weight"), "Missing key"),
        (lambda tensors: tensors.update(extra=torch.zeros(1)), "Unexpected key"),
        (lambda tensors: tensors.update({"roi_heads.box_head.fc6.bias": torch.zeros(7)}), "size mismatch"),
        (lambda tensors: tensors["roi_heads.box_head.fc6.bias"].fill_(float("nan")), "not finite"),
        (lambda tensors: tensors.update({"roi_heads.box_head.fc6.bias": torch.zeros(16).long()}), "floating point"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(folder: Path, change: Callable[[Any], None], reason: str) -> None:
    rewrite(folder, change)

    with pytest.raises(BundleError, match=reason):
        load_bundle(folder)


def test_a_pickle_is_refused_and_never_run(folder: Path, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "sprung",)

    content = pickle.dumps(Trap())
    (folder / "detector.safetensors").write_bytes(content)
    write_manifest(folder, tiny_manifest(folder))
    assert describe(folder / "detector.safetensors")["sha256"] == hashlib.sha256(content).hexdigest()

    with pytest.raises(BundleError, match="not a safetensors file"):
        load_bundle(folder)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    "name",
    [
        "../trunk.safetensors",
        "/etc/passwd",
        "a/b.safetensors",
        ".hidden.safetensors",
        "trunk.pt",
        "TRUNK~1.safetensors",
    ],
)
def test_a_file_name_that_leaves_the_folder_is_refused(folder: Path, name: str) -> None:
    manifest = tiny_manifest(folder)
    manifest["files"][name] = manifest["files"]["trunk.safetensors"]
    manifest["classifier"]["trunk"] = {"architecture": "vgg16", "file": name}
    write_manifest(folder, manifest)

    with pytest.raises(BundleError, match=r"bundle\.json is wrong at"):
        load_bundle(folder)


def set_at(manifest: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for parent in parents:
        manifest = manifest[parent]
    manifest[last] = value


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("schema_version", 2, "schema version 2; this program reads 1"),
        ("schema_version", None, "schema version None"),
        ("surprise", 1, "wrong at surprise"),
        ("name", "a name with spaces", "wrong at name"),
        ("decision.low", 0.9, "low operating point lies above"),
        ("decision.high", 1.5, r"wrong at decision\.high"),
        ("calibration.intercept", float("nan"), r"wrong at calibration\.intercept"),
        ("preprocessing", {}, "wrong at preprocessing"),
        ("detector.preprocessing.denoise", "magic", r"wrong at detector\.preprocessing\.denoise"),
        ("detector.architecture", "resnet", "unknown architecture 'resnet'"),
        ("detector.trunk.architecture", "os.system", "unknown architecture"),
        ("detector.options", {"depth": 3}, "cannot be built with depth=3"),
        ("detector.options", {"stages": 4}, "cannot be built with stages=4"),
        ("detector.options", {"representation": -1}, "greater than or equal to 0"),
        ("detector.options", {"representation": 100_000}, "less than or equal to 4096"),
        ("detector.options", {"pyramid_channels": 32, "representation": 16}, "do not fit"),
        ("files", {}, "disagree about"),
        ("licences", [], "wrong at licences"),
    ],
)
def test_a_manifest_that_says_something_odd_is_refused(folder: Path, path: str, value: Any, reason: str) -> None:
    manifest = tiny_manifest(folder)
    # The detector's trunk entry is the classifier's own dictionary; changing one must not change the other.
    manifest["detector"] = {**manifest["detector"], "preprocessing": dict(manifest["detector"]["preprocessing"])}
    set_at(manifest, path, value)
    write_manifest(folder, manifest)

    with pytest.raises(BundleError, match=reason):
        load_bundle(folder)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '"bundle"', "\x00"])
def test_a_manifest_that_is_none_is_refused(folder: Path, content: str) -> None:
    (folder / "bundle.json").write_text(content)

    with pytest.raises(BundleError, match=r"bundle\.json"):
        load_bundle(folder)


def test_an_absent_folder_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"no readable bundle\.json in .*nowhere"):
        load_bundle(tmp_path / "nowhere")


def test_a_huge_manifest_is_refused_unread(folder: Path) -> None:
    (folder / "bundle.json").write_bytes(b" " * 1_000_001)

    with pytest.raises(BundleError, match="larger than"):
        load_bundle(folder)
