"""Class colours over a photo."""

from __future__ import annotations

import numpy as np

from simclrseg.images.colours import overlay


def test_an_overlay_leaves_the_background_bare_and_ignored_pixels_light():
    photo = np.full((1, 3, 3), 100, np.uint8)
    mask = np.array([[0, 1, 255]], np.uint8)
    blended = overlay(photo, mask, ((0, 0, 0), (200, 0, 0)))
    assert blended[0].tolist() == [[100, 100, 100], [150, 50, 50], [178, 178, 178]]


def test_the_first_class_stays_bare_whatever_its_colour() -> None:
    photo = np.full((1, 2, 3), 100, np.uint8)
    blended = overlay(photo, np.array([[0, 1]], np.uint8), ((255, 255, 255), (0, 0, 0)))
    assert blended[0].tolist() == [[100, 100, 100], [50, 50, 50]]
