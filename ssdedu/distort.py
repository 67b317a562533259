"""Photometric distortion: brightness, contrast, saturation and hue at random (sections 2.2 and 3.6).

The original makes two HSV round trips, for saturation and for hue, where one is made here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from ssdedu.sample import Sample

__all__ = ["UNCHANGED", "Distortion", "distort", "draw_distortion", "to_uint8"]

LEVELS = np.arange(256)
LEAST, MOST = np.array([(-32, 0.5, 0.5, -18), (32, 1.5, 1.5, 18)])


@dataclass(frozen=True)
class Distortion:
    """One photometric distortion of an RGB uint8 image; the defaults change nothing.

    brightness is added (levels of 255), contrast and saturation multiply, hue is added (units of 2 degrees,
    as in OpenCV). The order is brightness, contrast, saturation, hue; with contrast_first=False it is
    brightness, saturation, hue, contrast. Hue wraps around at both ends; in the original only at the upper
    one, while below 0 its uint8 stops at red.
    """

    brightness: float = 0.0
    contrast: float = 1.0
    saturation: float = 1.0
    hue: float = 0.0
    contrast_first: bool = True

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """The distorted image, (H, W, 3) uint8 in and out; the input is left as it is."""
        levels = to_uint8(LEVELS + self.brightness)
        contrast = to_uint8(LEVELS * self.contrast)
        if self.contrast_first:
            return self._shift_colour(_look_up(image, contrast[levels]))
        return _look_up(self._shift_colour(_look_up(image, levels)), contrast)

    def _shift_colour(self, image: np.ndarray) -> np.ndarray:
        if self.saturation == 1 and self.hue == 0:
            return image
        hue = np.rint(LEVELS + self.hue) % 180
        table = np.stack([hue, to_uint8(LEVELS * self.saturation), LEVELS], axis=-1).astype(np.uint8)
        hsv = cv2.LUT(cv2.cvtColor(image, cv2.COLOR_RGB2HSV), table[None])
        return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


UNCHANGED = Distortion()


def to_uint8(values: np.ndarray) -> np.ndarray:
    """Values of any shape rounded and cut off at 0 and 255, uint8."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _look_up(image: np.ndarray, table: np.ndarray) -> np.ndarray:
    return image if np.array_equal(table, LEVELS) else cv2.LUT(image, table)


def draw_distortion(rng: np.random.Generator, probability: float = 0.5) -> Distortion:
    """Draw a distortion as the original does: each of the four parts with `probability`.

    Brightness +-32, contrast and saturation x U(.5, 1.5), hue +-18, contrast first or last with equal chance.
    """
    draws = rng.random(9)
    amounts = LEAST + (MOST - LEAST) * draws[:4]
    brightness, contrast, saturation, hue = np.where(draws[4:8] < probability, amounts, (0, 1, 1, 0)).tolist()
    return Distortion(brightness, contrast, saturation, hue, contrast_first=bool(draws[8] < 0.5))


def distort(sample: Sample, rng: np.random.Generator, probability: float = 0.5) -> Sample:
    """Change the colours of a sample (Caffe's ApplyDistort); boxes stay."""
    return replace(sample, image=draw_distortion(rng, probability)(sample.image))
