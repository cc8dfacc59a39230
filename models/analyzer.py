"""One radiograph in, one analysis out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.bundle import Bundle
from models.decision import decide, sigmoid
from models.detector import detections_of
from models.explain import grad_cam, register
from models.folding import fold_batch_norms
from models.preprocess import Letterbox, Preprocessing, fit, normalise, prepare
from models.trunk import Trunk
from models.types import Decision, ImageAnalysis, ImageError, ScoredBox, is_unlike
from models.views import View, fuse, mirror, mirror_boxes

FloatArray = NDArray[np.float32]
Shapes = tuple[tuple[int, int], ...]

# Below this a bone is a handful of pixels; beyond this ratio the canvas would be a strip a few cells wide.
MINIMUM_SIDE = 32
MAXIMUM_ASPECT_RATIO = 20.0
CUDA_BATCH = 8


@dataclass(frozen=True, slots=True)
class NetworkAnswer:
    """What the networks say of an image, uncalibrated: logit, boxes best first, unlikeness (`models.unlikeness`)."""

    logit: float
    candidates: tuple[ScoredBox, ...]
    unlikeness: float | None


class Analyzer:
    """A bundle on a device, ready to analyse image after image.

    The same image gives the same numbers each time on the same machine. One analyzer serves one thread at a time.

    Parameters
    ----------
    bundle
        What `load_bundle` returned; its networks are taken over (folded, converted, moved): nobody can train them on.
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
        for network in (bundle.classifier_trunk, bundle.detector_trunk, bundle.classifier, bundle.detector):
            fold_batch_norms(network)
        self.device = choose_device(device)
        self.dtype = choose_dtype(self.device)
        self._classifier_trunk = bundle.classifier_trunk.to(self.dtype)
        self._detector_trunk = bundle.detector_trunk.to(self.dtype)
        self._looked_at: list[tuple[FloatArray, Tensor, Letterbox]] = []
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
        return self.analyze_with_networks(pixels, minimum_score)[0]

    def analyze_with_networks(
        self, pixels: FloatArray, minimum_score: float | None = None
    ) -> tuple[ImageAnalysis, NetworkAnswer]:
        """Analyse one image as `analyze` does, and tell what the networks said."""
        started = time.perf_counter()
        (answer,) = self._answers([check_pixels(pixels)])
        return self._analysis(answer, minimum_score, time.perf_counter() - started), answer

    @property
    def batch_size(self) -> int:
        """How many images are worth giving at once: a processor is busy with one already."""
        return CUDA_BATCH if self.device.type == "cuda" else 1

    def analyze_many(self, images: Sequence[FloatArray]) -> list[ImageAnalysis | ImageError]:
        """Analyse several images; those whose canvases are of one shape go through the networks together.

        Parameters
        ----------
        images
            Each as `analyze` takes it.

        Returns
        -------
        list
            In the order of the images, the analysis or the reason why there is none. The numbers are those of `analyze`
            up to rounding; `seconds` is the image's share of its batch.
        """
        answers: list[ImageAnalysis | ImageError | None] = [None] * len(images)
        batches: dict[Shapes, list[int]] = {}
        sound: dict[int, FloatArray] = {}
        for index, pixels in enumerate(images):
            try:
                sound[index] = check_pixels(pixels)
            except ImageError as error:
                answers[index] = error
            else:
                batches.setdefault(self._canvas_shape(sound[index]), []).append(index)
        for members in batches.values():
            started = time.perf_counter()
            found = self._answers([sound[index] for index in members])
            share = (time.perf_counter() - started) / len(members)
            for index, answer in zip(members, found, strict=True):
                answers[index] = self._analysis(answer, None, share)
        return [answer for answer in answers if answer is not None]

    def _analysis(self, answer: NetworkAnswer, minimum_score: float | None, seconds: float) -> ImageAnalysis:
        best = answer.candidates[0].score if answer.candidates else 0.0
        probability = self._calibration.probability(answer.logit, self._calibration.evidence(answer.candidates))
        candidates = self._calibration.rescore(answer.logit, answer.candidates)
        unlike = is_unlike(answer.unlikeness)
        shown_from = self._points.box_score if minimum_score is None else minimum_score
        return ImageAnalysis(
            probability=probability,
            boxes=tuple(box for box in candidates if box.score >= shown_from),
            decision=Decision.INCONCLUSIVE if unlike else decide(probability, candidates, self._points),
            seconds=seconds,
            classifier_probability=sigmoid(answer.logit),
            detector_score=best,
            unlikeness=answer.unlikeness,
        )

    def candidates(self, pixels: FloatArray) -> tuple[float, tuple[ScoredBox, ...]]:
        """Return the classifier's uncalibrated logit and every box of the detector as it scores them, best first.

        This is what calibration and operating points are fitted on; the trunk runs once where both networks share it.
        Where the bundle asks for it, an image whose logit is low never reaches the detector and has no boxes. Raises
        ImageError as `analyze` does.
        """
        (answer,) = self._answers([check_pixels(pixels)])
        return answer.logit, answer.candidates

    def explain(self, pixels: FloatArray) -> FloatArray:
        """Return where the classifier's answer comes from: float32, (rows, columns) of the image, 0..1.

        See `models.explain`. It says nothing about the detector, whose boxes explain themselves. The very array that
        was analysed last goes through the trunk once for both. Raises ImageError as `analyze` does.
        """
        image = check_pixels(pixels)
        for seen, maps, letterbox in self._looked_at:
            if seen is image:
                return register(grad_cam(self._classifier, maps), letterbox)
        preprocessing = self._manifest.classifier.preprocessing.build()
        with torch.inference_mode():
            maps, (letterbox,) = self._maps([image], preprocessing, self._classifier_trunk)
        return register(grad_cam(self._classifier, maps), letterbox)

    @torch.inference_mode()
    def _answers(self, images: Sequence[FloatArray]) -> list[NetworkAnswer]:
        """Return what the networks say of images whose canvases have one shape."""
        entry = self._manifest.classifier
        maps, letterboxes = self._maps(images, entry.preprocessing.build(), self._classifier_trunk)
        self._looked_at = [(image, maps[at : at + 1], letterboxes[at]) for at, image in enumerate(images)]
        output = self._classifier(maps)
        logits = [float(logit) for logit in output.logits]
        unlikeness = [None] * len(images) if output.unlikeness is None else output.unlikeness.tolist()
        from_logit = self._manifest.detector_from_logit
        seen = [index for index, logit in enumerate(logits) if from_logit is None or logit >= from_logit]
        boxes: list[tuple[ScoredBox, ...]] = [()] * len(images)
        if seen:
            shared = self._detector_trunk is self._classifier_trunk
            known = (
                _rows(maps, seen) if shared and self._manifest.detector.preprocessing == entry.preprocessing else None
            )
            looked_at = [images[index] for index in seen]
            looks = [self._look(looked_at, view, known) for view in self._manifest.views()]
            for index, of_image in zip(seen, zip(*looks, strict=True), strict=True):
                boxes[index] = fuse(of_image)
        return [NetworkAnswer(*each) for each in zip(logits, boxes, unlikeness, strict=True)]

    def _canvas_shape(self, pixels: FloatArray) -> Shapes:
        """Return the shapes of the image's canvases, the classifier's and one for each of the detector's views."""
        longest = [self._manifest.classifier.preprocessing.longest_side]
        longest += [view.longest_side for view in self._manifest.views()]
        rows, columns = pixels.shape
        canvases = [fit(rows, columns, side) for side in longest]
        return tuple((canvas.canvas_rows, canvas.canvas_columns) for canvas in canvases)

    def _look(self, images: Sequence[FloatArray], view: View, plain_maps: Tensor | None) -> list[list[ScoredBox]]:
        """Run the detector over one view; `plain_maps` are the trunk's of the unchanged images, where known."""
        preprocessing = replace(self._manifest.detector.preprocessing.build(), longest_side=view.longest_side)
        plain = preprocessing == self._manifest.detector.preprocessing.build() and not view.mirrored
        letterboxes = [fit(pixels.shape[0], pixels.shape[1], view.longest_side) for pixels in images]
        if plain_maps is None or not plain:
            seen = [mirror(pixels) if view.mirrored else pixels for pixels in images]
            plain_maps, letterboxes = self._maps(seen, preprocessing, self._detector_trunk)
        detections, _ = self._detector(plain_maps, [(each.rows, each.columns) for each in letterboxes])
        found = []
        for pixels, letterbox, detection in zip(images, letterboxes, detections, strict=True):
            boxes = _scored_boxes(*detections_of(detection), letterbox)
            found.append(mirror_boxes(boxes, pixels.shape[1]) if view.mirrored else list(boxes))
        return found

    def _maps(
        self, images: Sequence[FloatArray], preprocessing: Preprocessing, trunk: Trunk
    ) -> tuple[Tensor, list[Letterbox]]:
        prepared = [prepare(pixels, preprocessing) for pixels in images]
        canvases = np.stack([normalise(canvas, trunk.normalisation) for canvas, _ in prepared])
        batch = torch.from_numpy(canvases).to(device=self.device, dtype=self.dtype)
        maps: Tensor = trunk(batch.contiguous(memory_format=torch.channels_last))
        return maps, [letterbox for _, letterbox in prepared]


def _rows(maps: Tensor, seen: list[int]) -> Tensor:
    return maps if len(seen) == len(maps) else maps[seen]


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
