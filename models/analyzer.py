"""One radiograph in, one analysis out."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.bundle import Bundle
from models.decision import decide, sigmoid
from models.detector import detections_of
from models.explain import grad_cam, register
from models.preprocess import Letterbox, Preprocessing, fit, normalise, prepare
from models.types import ImageAnalysis, ImageError, ScoredBox
from models.views import View, fuse, mirror, mirror_boxes

FloatArray = NDArray[np.float32]

# Below this a bone is a handful of pixels; beyond this ratio the canvas would be a strip a few cells wide.
MINIMUM_SIDE = 32
MAXIMUM_ASPECT_RATIO = 20.0


class Analyzer:
    """A bundle on a device, ready to analyse image after image.

    The same image gives the same numbers each time on the same machine. One analyzer serves one thread at a time.

    Parameters
    ----------
    bundle
        What `load_bundle` returned; its networks are taken over (moved and converted).
    device
        'auto' (a CUDA device if there is one), 'cpu', 'cuda' or 'cuda:1'.
    threads
        Threads for one operation on the CPU; this setting of torch holds for the whole process. None leaves it.
    """

    def __init__(self, bundle: Bundle, device: str = "auto", threads: int | None = None) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        self._manifest = bundle.manifest
        self._calibration = bundle.manifest.calibration.build()
        self._points = bundle.manifest.decision.build()
        self.device = choose_device(device)
        self.dtype = choose_dtype(self.device)
        self._classifier_trunk = bundle.classifier_trunk.to(self.dtype)
        self._detector_trunk = bundle.detector_trunk.to(self.dtype)
        self._classifier = bundle.classifier
        self._detector = bundle.detector
        self._classifier.convert(self.dtype)
        self._detector.convert(self.dtype)
        for module in (self._classifier_trunk, self._detector_trunk, self._classifier, self._detector):
            # Channels last is the order in which the processors' matrix units read.
            module.to(device=self.device).to(memory_format=torch.channels_last)

    @property
    def name(self) -> str:
        """The bundle's name."""
        return self._manifest.name

    @property
    def version(self) -> str:
        """The bundle's version: `<date>-<name>+<8 hex digits>`."""
        return self._manifest.version

    @property
    def parameters(self) -> tuple[str, ...]:
        """The settings in force, one line each, for a report (TID 4019 of PS3.16, Algorithm Parameters)."""
        return (
            f"low operating point = {self._points.low:.4f}",
            f"high operating point = {self._points.high:.4f}",
            f"box score threshold = {self._points.box_score:.4f}",
        )

    def analyze(self, pixels: FloatArray, minimum_score: float | None = None) -> ImageAnalysis:
        """Analyse one image.

        Parameters
        ----------
        pixels
            float32, shape (rows, columns), 0..1, 1 = bright bone.
        minimum_score
            Boxes from this score on are returned; None means the bundle's threshold. The decision always uses the
            bundle's threshold.

        Raises
        ------
        ImageError
            The array is no image that can be analysed; the message says why.
        """
        started = time.perf_counter()
        classifier_logit, candidates = self.candidates(pixels)
        best = candidates[0].score if candidates else 0.0
        probability = self._calibration.probability(classifier_logit, best)
        candidates = self._calibration.rescore(classifier_logit, candidates)
        shown_from = self._points.box_score if minimum_score is None else minimum_score
        return ImageAnalysis(
            probability=probability,
            boxes=tuple(box for box in candidates if box.score >= shown_from),
            decision=decide(probability, candidates, self._points),
            seconds=time.perf_counter() - started,
            classifier_probability=sigmoid(classifier_logit),
            detector_score=best,
        )

    @torch.inference_mode()
    def candidates(self, pixels: FloatArray) -> tuple[float, tuple[ScoredBox, ...]]:
        """Return the classifier's uncalibrated logit and every box of the detector as it scores them, best first.

        This is what calibration and operating points are fitted on; the trunk runs once where both networks share it.
        Where the bundle asks for it, an image whose logit is low never reaches the detector and has no boxes. Raises
        ImageError as `analyze` does.
        """
        pixels = check_pixels(pixels)
        entry = self._manifest.classifier
        maps, _ = self._maps(pixels, entry.preprocessing.build(), self._classifier_trunk)
        classifier_logit = float(self._classifier(maps).logits[0])
        from_logit = self._manifest.detector_from_logit
        if from_logit is not None and classifier_logit < from_logit:
            return classifier_logit, ()
        shared = self._detector_trunk is self._classifier_trunk
        known = maps if shared and self._manifest.detector.preprocessing == entry.preprocessing else None
        return classifier_logit, fuse([self._look(pixels, view, known) for view in self._manifest.views()])

    def explain(self, pixels: FloatArray) -> FloatArray:
        """Return where the classifier's answer comes from: float32, (rows, columns) of the image, 0..1.

        See `models.explain`. It says nothing about the detector, whose boxes explain themselves. Raises ImageError as
        `analyze` does.
        """
        pixels = check_pixels(pixels)
        with torch.inference_mode():
            maps, letterbox = self._maps(
                pixels, self._manifest.classifier.preprocessing.build(), self._classifier_trunk
            )
        return register(grad_cam(self._classifier, maps), letterbox)

    def _look(self, pixels: FloatArray, view: View, plain_maps: Tensor | None) -> list[ScoredBox]:
        """Run the detector over one view; `plain_maps` are the trunk's of the unchanged image, where they are known."""
        preprocessing = replace(self._manifest.detector.preprocessing.build(), longest_side=view.longest_side)
        plain = preprocessing == self._manifest.detector.preprocessing.build() and not view.mirrored
        letterbox = fit(pixels.shape[0], pixels.shape[1], view.longest_side)
        if plain_maps is None or not plain:
            seen = mirror(pixels) if view.mirrored else pixels
            plain_maps, letterbox = self._maps(seen, preprocessing, self._detector_trunk)
        detections, _ = self._detector(plain_maps, [(letterbox.rows, letterbox.columns)])
        boxes = _scored_boxes(*detections_of(detections[0]), letterbox)
        return mirror_boxes(boxes, pixels.shape[1]) if view.mirrored else list(boxes)

    def _maps(self, pixels: FloatArray, preprocessing: Preprocessing, trunk: nn.Module) -> tuple[Tensor, Letterbox]:
        canvas, letterbox = prepare(pixels, preprocessing)
        images = torch.from_numpy(normalise(canvas))[None].to(device=self.device, dtype=self.dtype)
        maps: Tensor = trunk(images.contiguous(memory_format=torch.channels_last))
        return maps, letterbox


def check_pixels(pixels: FloatArray) -> FloatArray:
    """Return the image as float32, or raise ImageError: what is no radiograph gets no answer, least of all 'absent'."""
    if not isinstance(pixels, np.ndarray) or pixels.ndim != 2:
        raise ImageError("an image is a two-dimensional array (rows, columns)")
    if not np.issubdtype(pixels.dtype, np.floating):
        raise ImageError(f"an image holds floating point values in 0..1, not {pixels.dtype}")
    short, long = sorted(pixels.shape)
    if short < MINIMUM_SIDE:
        raise ImageError(f"the image has a side of {short} pixels; at least {MINIMUM_SIDE} are needed")
    if long > MAXIMUM_ASPECT_RATIO * short:
        raise ImageError(f"the image is more than {MAXIMUM_ASPECT_RATIO:g} times as long as wide")
    if not np.isfinite(pixels).all():
        raise ImageError("the image holds values that are not finite")
    low, high = float(pixels.min()), float(pixels.max())
    if low < -1e-3 or high > 1 + 1e-3:
        raise ImageError("the image holds values outside 0..1")
    if high - low < 1e-6:
        raise ImageError("the image has one grey value only")
    return np.ascontiguousarray(pixels, dtype=np.float32)


def choose_device(device: str) -> torch.device:
    """Turn 'auto' into a device, CUDA before CPU."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(device)


def choose_dtype(device: torch.device) -> torch.dtype:
    """Choose bfloat16 where the processor computes with it, float32 elsewhere.

    A CPU without AMX or AVX512-BF16 emulates bfloat16, slower than float32.
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    # torch has no public question for this; a version without these answers gets float32, which is always right.
    questions = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    able = any(getattr(torch.cpu, question, lambda: False)() for question in questions)
    return torch.bfloat16 if able else torch.float32


def _scored_boxes(corners: Tensor, scores: Tensor, letterbox: Letterbox) -> tuple[ScoredBox, ...]:
    """Map canvas boxes to the source image, best first; a box without area is none."""
    source = letterbox.to_source(corners.float().cpu().numpy())
    pairs = zip(source.tolist(), scores.float().cpu().tolist(), strict=True)
    return tuple(ScoredBox(x1, y1, x2, y2, score) for (x1, y1, x2, y2), score in pairs if x2 > x1 and y2 > y1)
