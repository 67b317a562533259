"""Whether default boxes fit a data set: what the explorer reckons in Python and on the page."""

import numpy as np
import pytest
from cases import noise, random_boxes, sample_of, truth
from node import needs_node, run_node

from ssdedu import coverage as module
from ssdedu import priors
from ssdedu.sample import Truth
from ssdedu.widgets import PriorBoxExplorer
from ssdedu.widgets.prior_box_data import MATCHED_IMAGES, objects_of, positives_per_map, summary

CONFIGS = [
    priors.SSD300_VOC,
    priors.SSD300_PAPER,
    priors.SHAPES128,
    priors.SHAPES128.replace(name="CLIP", clip=True),
]
named = pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.name)


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    return [random_boxes(rng, n) for n in (3, 0, 1, 12, 5)]


class Photos:
    """A data set of three images."""

    classes = ("cat", "dog")

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return sample_of(
            noise(seed=index), [[0.1, 0.1, 0.2 + index / 4, 0.9]] * (index > 0), [1] * (index > 0)
        )

    def truth(self, index):
        return self[index].truth


@named
def test_the_summary_is_that_of_coverage(images, config):
    truths = [Truth(b, np.ones(len(b), np.int64), np.zeros(len(b), bool), 10, 10) for b in images]
    wanted = module.coverage(truths, config)
    found = summary(objects_of(images).all_xyxy, config, 0.5)
    assert found["num"] == 21
    assert found["covered"] == wanted.covered.sum()
    assert found["mean_iou"] == pytest.approx(wanted.mean_iou)
    assert found["objects_per_map"] == wanted.objects_per_map.tolist()
    assert [tuple(b) for b in found["by_size"]] == [tuple(b) for b in wanted.by_size()]
    assert [tuple(b) for b in found["by_ratio"]] == [tuple(b) for b in wanted.by_ratio()]
    counted = positives_per_map([b.tolist() for b in images], config, 0.5, "ssd")
    assert counted == wanted.positives_per_map.tolist()


@needs_node
@named
@pytest.mark.parametrize("rule", ["ssd", "threshold"])
def test_the_page_reckons_the_same(images, config, rule, tmp_path):
    script = "[m.fitOf(data.images.flat(), data.config, 0.45), m.positivesPerMap(...data.asked)]"
    data = {"config": config.to_dict(), "images": [b.tolist() for b in images]}
    data["asked"] = [data["images"], data["config"], 0.45, rule]
    page, positives = run_node(tmp_path, "fit.js", script, data)
    wanted = summary(objects_of(images).all_xyxy, config, 0.45)
    assert page["covered"] == wanted["covered"]
    assert page["objects_per_map"] == wanted["objects_per_map"]
    assert page["mean_iou"] == pytest.approx(wanted["mean_iou"], abs=1e-6)
    for kind in ("by_size", "by_ratio"):
        np.testing.assert_allclose(page[kind], wanted[kind], rtol=1e-5)
    assert positives == positives_per_map(data["images"], config, 0.45, rule)


def test_many_kinds_of_data_give_their_objects(images):
    assert [len(b) for b in objects_of(images).boxes_xyxy] == [3, 0, 1, 12, 5]
    assert objects_of(images[0]).all_xyxy.shape == (3, 4)
    assert objects_of(None).all_xyxy.shape == (0, 4)
    two = objects_of([truth([(0, 0, 32, 16), (5, 5, 5, 9)]), truth()])
    assert [b.tolist() for b in two.boxes_xyxy] == [[[0, 0, 0.5, 0.5]], []]
    photos = objects_of(Photos())
    assert [len(b) for b in photos.boxes_xyxy] == [0, 1, 1]
    with pytest.raises(ValueError, match="fractions"):
        objects_of([[[0, 0, 300, 200]]])


def test_a_large_data_set_sends_a_sample_of_whole_images():
    rng = np.random.default_rng(0)
    objects = objects_of([random_boxes(rng, 7) for _ in range(900)])
    sent = objects.for_the_page()
    assert 2000 <= sum(map(len, sent)) < 2007
    assert all(len(image) == 7 for image in sent)
    assert sent == objects.for_the_page()
    assert sent != objects.for_the_page(seed=1)


def test_the_explorer_answers_for_all_objects(images):
    explorer = PriorBoxExplorer(None, priors.SHAPES128, data=images * 150)
    assert explorer.data_size == 21 * 150 > sum(map(len, explorer.data))
    explorer.data_revision = 1
    answer = explorer.data_answer
    assert answer["revision"] == 1
    assert (
        answer["now"] == answer["before"] == summary(objects_of(images * 150).all_xyxy, priors.SHAPES128, 0.5)
    )
    assert answer["positives_per_map"] == positives_per_map(
        explorer.data[:MATCHED_IMAGES], priors.SHAPES128, 0.5, "ssd"
    )
    explorer.description = priors.SHAPES128_COARSE_MAP.to_dict()
    explorer.data_revision = 2
    assert explorer.data_answer["now"]["covered"] < explorer.data_answer["before"]["covered"]


def test_the_images_of_a_data_set_can_be_leafed_through():
    explorer = PriorBoxExplorer(config=priors.SHAPES128, data=Photos())
    assert (explorer.num_images, explorer.objects) == (3, [])
    first = explorer.image
    explorer.index = 2
    assert explorer.image != first
    assert explorer.objects == [{"box": [0.1, 0.1, 0.7, 0.9], "name": "cat"}]
    assert len(explorer.answer["own"]) == 1
