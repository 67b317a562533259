"""The figures of notebook 08 draw what they are given."""

import numpy as np
from cases import THREE, noise, sample_of

from ssdedu import augment
from ssdedu.course.figures import augmentation as figures


def frames(ax):
    """Corners of all outlines, in the order drawn."""
    return np.array([p.get_bbox().extents for p in ax.patches]).reshape(-1, 4)


def test_views_frame_every_object_by_its_label():
    first, second = sample_of(noise(200, 100), THREE), sample_of(noise(40, 60), THREE[:1], labels=[3])
    fig = figures.views([first, second], ["cat", "dog", "cow"])
    np.testing.assert_allclose(frames(fig.axes[0]), THREE, atol=1e-6)
    np.testing.assert_allclose(frames(fig.axes[1]), THREE[:1], atol=1e-6)
    assert fig.axes[1].patches[0].get_edgecolor() == fig.axes[0].patches[2].get_edgecolor()
    assert [t.get_text() for t in fig.legends[0].get_texts()] == ["cat", "dog", "cow"]
    shapes = [ax.images[0].get_array().shape for ax in fig.axes]
    assert shapes[0] == (62, 125, 3)  # no more pixels than a panel has, in proportion
    assert shapes[1] == (60, 40, 3)


def test_sampled_crops_and_objects_are_drawn_in_each_panel():
    sample = sample_of(noise(), THREE)
    some, none = np.array([[0.1, 0.2, 0.6, 0.7], [0, 0, 1, 1]]), np.zeros((0, 4))
    fig = figures.sampled([(sample, [some, none]), (sample, [none, some])], ["first", "second"])
    panels = [frames(ax) for ax in fig.axes]
    for with_crops, without in ((0, 1), (3, 2)):
        np.testing.assert_allclose(panels[with_crops], [*some, *sample.boxes_xyxy])
        np.testing.assert_allclose(panels[without], sample.boxes_xyxy)
        assert [t.get_text() for t in fig.axes[without].texts] == ["no crop"]
        assert not fig.axes[with_crops].texts
    assert [ax.get_title() for ax in fig.axes] == ["first", "second", "", ""]


def test_acceptance_draws_the_lines_given():
    fig = figures.acceptance([0.1, 0.5], {"any": [1.0, 0.6], "all": [0.2, 0.0]})
    (ax,) = fig.axes
    drawn = {line.get_label(): line.get_xydata().tolist() for line in ax.lines}
    assert drawn == {"any": [[0.1, 1.0], [0.5, 0.6]], "all": [[0.1, 0.2], [0.5, 0.0]]}


def test_centre_rule_colours_objects_by_fate_in_scene_and_view():
    sample, patch = sample_of(noise(64, 64), THREE), np.array([0.25, 0.25, 0.75, 1.0])
    fates = ["stays", "stays", "gone"]
    view = augment.crop(sample, patch)
    fig = figures.centre_rule(sample, patch, fates, view)
    scene, right = fig.axes
    np.testing.assert_allclose(frames(scene), [*sample.boxes_xyxy, patch], atol=1e-6)
    np.testing.assert_allclose(frames(right), view.boxes_xyxy, atol=1e-6)
    colors = [p.get_edgecolor() for p in scene.patches]
    assert colors[0] == colors[1] == right.patches[0].get_edgecolor() != colors[2]
    centres = [line.get_xydata()[0] for line in scene.lines]
    boxes = sample.boxes_xyxy
    np.testing.assert_allclose(centres, (boxes[:, :2] + boxes[:, 2:]) / 2)
    assert {t.get_text() for t in fig.legends[0].get_texts()} == {"stays", "gone", "crop"}


def test_the_strip_shows_each_patch_and_its_view():
    sample = sample_of(noise(64, 64), THREE)
    patches = [np.array([0.25, 0.25, 0.75, 1.0]), np.array([0.0, 0.6, 0.5, 1.0])]
    fig = figures.crop_strip(sample, patches, ["first", "second"])
    assert [part.get_suptitle() for part in fig.subfigs] == ["first", "second"]
    for part, patch in zip(fig.subfigs, patches, strict=True):
        view, (scene, square) = augment.crop(sample, patch), part.axes
        np.testing.assert_allclose(frames(scene), [*sample.boxes_xyxy, patch], atol=1e-6)
        np.testing.assert_allclose(frames(square), view.boxes_xyxy, atol=1e-6)
        colors = [scene.patches[label - 1].get_edgecolor() for label in view.labels]
        assert [p.get_edgecolor() for p in square.patches] == colors
        height, width = square.images[0].get_array().shape[:2]
        assert height == width
    assert [len(part.axes[1].patches) for part in fig.subfigs] == [2, 1]


def test_sizes_draw_shares_that_add_up_to_one():
    bins = np.array([1.0, 10.0, 20.0, 100.0])
    fig = figures.sizes(np.array([5.0, 15.0, 15.0, 50.0]), {"crops": np.array([15.0, 60.0])}, bins)
    before, after = fig.axes[0].patches
    np.testing.assert_allclose(before.get_data().values, [0.25, 0.5, 0.25])
    np.testing.assert_allclose(after.get_data().values, [0, 0.5, 0.5])
    np.testing.assert_array_equal(after.get_data().edges, bins)
    assert fig.axes[0].get_title() == "crops"


def test_a_histogram_of_no_object_is_flat():
    fig = figures.sizes(np.zeros(0), {"crops": np.zeros(0)}, np.array([1.0, 10.0, 100.0]))
    assert all(np.all(p.get_data().values == 0) for p in fig.axes[0].patches)
