import colorsys
from dataclasses import replace

import cv2
import numpy as np
import pytest
from cases import THREE, noise, same, smooth

from ssdedu.distort import Distortion, distort, draw_distortion
from ssdedu.sample import Sample


def test_one_distortion_of_one_pixel_by_hand():
    pixel = np.array([[[250, 100, 100]]], np.uint8)
    # contrast 1.5: 255, 150, 150 (saturation 105), times 1.5: 158, so the smaller channels are 255 - 158.
    first = Distortion(contrast=1.5, saturation=1.5)(pixel)
    np.testing.assert_allclose(first[0, 0], (255, 97, 97), atol=1)
    # saturation 153 times 1.5: 230, smaller channels 250 (1 - 230 / 255) = 24.5, then contrast.
    last = Distortion(contrast=1.5, saturation=1.5, contrast_first=False)(pixel)
    np.testing.assert_allclose(last[0, 0], (255, 37, 37), atol=2)


def test_brightness_and_contrast_round_and_stop_at_the_ends():
    grey = np.array([0, 10, 31, 101, 228, 250], np.uint8)[:, None, None].repeat(3, 2)
    assert Distortion(brightness=31.6)(grey)[:, 0, 1].tolist() == [32, 42, 63, 133, 255, 255]
    assert Distortion(brightness=-31.6)(grey)[:, 0, 1].tolist() == [0, 0, 0, 69, 196, 218]
    assert Distortion(contrast=1.3)(grey)[:, 0, 1].tolist() == [0, 13, 40, 131, 255, 255]
    expected = [min(255, round(min(255, max(0, v + 20)) * 0.6)) for v in grey[:, 0, 0].tolist()]
    for order in (True, False):
        both = Distortion(brightness=20, contrast=0.6, contrast_first=order)(grey)
        assert both[:, 0, 0].tolist() == expected


def test_hue_turns_the_circle_and_wraps_at_both_ends():
    red, green = np.array([[[255, 0, 0]]], np.uint8), np.array([[[0, 255, 0]]], np.uint8)
    assert Distortion(hue=60)(red).ravel().tolist() == [0, 255, 0]
    assert Distortion(hue=-60)(red).ravel().tolist() == [0, 0, 255]
    assert Distortion(hue=-30)(red).ravel().tolist() == [255, 0, 255]
    assert Distortion(hue=150)(green).ravel().tolist() == [255, 255, 0]


@pytest.mark.parametrize("hue", [-18.0, -7.0, 0.0, 11.0, 18.0])
@pytest.mark.parametrize("saturation", [0.5, 0.8, 1.0, 1.5])
def test_saturation_and_hue_agree_with_the_hsv_of_the_standard_library(hue, saturation):
    image = noise(20, 20)
    image = image[(image.max(-1) > 60) & (np.ptp(image, axis=-1) > 30)][:, None]
    out = Distortion(saturation=saturation, hue=hue)(image).astype(int)
    for pixel, found in zip(image[:, 0], out[:, 0], strict=True):
        h, s, v = colorsys.rgb_to_hsv(*(pixel / 255.0))
        wanted = np.multiply(colorsys.hsv_to_rgb((h + hue / 180) % 1, min(1, s * saturation), v), 255)
        np.testing.assert_allclose(found, wanted, atol=8)  # OpenCV's byte of hue is 2 degrees: 8.5 levels


def test_the_original_order_step_by_step_with_its_own_hsv_round_trips():
    image, change = smooth(60, 40, 60, 200), Distortion(12, 1.2, 0.7, 9.0, contrast_first=False)
    slow = np.clip(image + 12.0, 0, 255).astype(np.uint8)
    for channel, act in ((1, lambda s: np.clip(np.rint(s * 0.7), 0, 255)), (0, lambda h: (h + 9) % 180)):
        hsv = cv2.cvtColor(slow, cv2.COLOR_RGB2HSV)
        hsv[..., channel] = act(hsv[..., channel].astype(float))
        slow = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    slow = np.clip(np.rint(slow * 1.2), 0, 255)
    difference = np.abs(change(image) - slow)
    assert difference.max() <= 5
    assert difference.mean() < 1


def test_grey_stays_grey_and_colour_changes_leave_it_alone():
    grey = noise()[..., :1].repeat(3, 2)
    np.testing.assert_array_equal(Distortion(saturation=1.5, hue=-17)(grey), grey)
    out = Distortion(20, 0.7, 1.4, 11, contrast_first=False)(grey)
    np.testing.assert_array_equal(out, out[..., :1].repeat(3, 2))


def test_no_distortion_is_no_change_and_the_input_is_never_written():
    image = noise()
    before = image.copy()
    np.testing.assert_array_equal(Distortion()(image), before)
    Distortion(20, 0.7, 1.4, 11)(image)
    np.testing.assert_array_equal(image, before)


def test_drawn_distortions_have_the_original_ranges_and_chances():
    rng = np.random.default_rng(0)
    drawn = [draw_distortion(rng) for _ in range(4000)]
    ranges = {
        "brightness": (0, -32, 32),
        "contrast": (1, 0.5, 1.5),
        "saturation": (1, 0.5, 1.5),
        "hue": (0, -18, 18),
    }
    for name, (neutral, low, high) in ranges.items():
        values = np.array([getattr(d, name) for d in drawn])
        used = values[values != neutral]
        assert abs(len(used) / 4000 - 0.5) < 0.03
        assert low <= used.min() < low + 0.01 * (high - low)
        assert high >= used.max() > high - 0.01 * (high - low)
        assert abs(used.mean() - (low + high) / 2) < 0.03 * (high - low)
    assert abs(np.mean([d.contrast_first for d in drawn]) - 0.5) < 0.03
    quarter = np.mean([(d.brightness != 0) and (d.hue != 0) for d in drawn])
    assert abs(quarter - 0.25) < 0.03


def test_a_distortion_is_drawn_from_nine_numbers_in_this_order():
    for seed in range(50):
        one, two = np.random.default_rng(seed), np.random.default_rng(seed)
        brightness, contrast, saturation, hue = two.uniform((-32, 0.5, 0.5, -18), (32, 1.5, 1.5, 18)).tolist()
        applied, first = (two.random(4) < 0.5).tolist(), two.random() < 0.5
        neutral = Distortion(contrast_first=bool(first))
        amounts = {"brightness": brightness, "contrast": contrast, "saturation": saturation, "hue": hue}
        used = {name: amounts[name] for name, used in zip(amounts, applied, strict=True) if used}
        assert draw_distortion(one) == replace(neutral, **used)
        assert one.random() == two.random()


@pytest.mark.parametrize("count", [0, 1, 3])
def test_distort_keeps_the_objects_and_probability_zero_keeps_the_pixels(count):
    boxes = np.array(THREE, np.float32).reshape(-1, 4)[:count]
    sample = Sample(noise(), boxes, np.arange(1, count + 1), np.arange(count) == 1, "a photo")
    out = distort(sample, np.random.default_rng(1), probability=1)
    assert not np.array_equal(out.image, sample.image)
    same(replace(out, image=sample.image), sample)
    same(distort(sample, np.random.default_rng(1), probability=0), sample)
