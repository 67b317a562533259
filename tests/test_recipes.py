"""Recipes, the decoded cache, and the choice of splits and device."""

import numpy as np
import pytest
import torch

from ssdedu import workshop
from ssdedu.batches import AugmentedView
from ssdedu.datasets import shapes
from ssdedu.datasets.cached import Cached
from ssdedu.datasets.shapes import Shapes
from ssdedu.model import parameter_groups
from ssdedu.recipes import RECIPES, recipe


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_fits_its_own_parts(name):
    chosen = recipe(name)
    with torch.device("meta"):
        net = chosen.model(5, 0).eval()
    c = chosen.config
    offsets, logits = net(torch.zeros(1, 3, c.height_px, c.width_px, device="meta"))
    assert offsets.shape[1] == logits.shape[1] == c.num_boxes
    assert logits.shape[2] == 5
    augment = chosen.augmentation()
    assert (augment.width_px, augment.height_px, augment.max_ratio) == (c.width_px, c.height_px, chosen.max_zoom_out)
    assert parameter_groups(net, 1.0, 0.1)


def test_the_papers_recipes_have_the_papers_numbers():
    for name in ("ssd300", "ssd512"):
        s = recipe(name).settings
        assert (s.optimizer, s.lr, s.milestones, s.iterations) == ("sgd", 1e-3, (80_000, 100_000), 120_000)
        assert recipe(name).max_zoom_out == 4


def test_sized_recipes_keep_what_fits_and_name_what_does_not():
    small = recipe("small")
    assert small.sized(192, 192) is small
    wide = small.sized(256, 128).config
    assert (wide.width_px, wide.height_px, wide.maps[0].width, wide.maps[0].height) == (256, 128, 32, 16)
    with pytest.raises(ValueError, match="known: shapes"):
        recipe("yolo")


def test_fewer_steps_shrink_the_schedule():
    s = workshop._settings(recipe("ssd300"), {"iterations": 12_000, "lr": None})
    assert (s.milestones, s.lr) == ((8_000, 10_000), 1e-3)
    longer = workshop._settings(recipe("small"), {"iterations": 15_000})
    assert longer.warmup == recipe("small").settings.warmup


def test_the_cache_reads_once_as_far_as_it_fits():
    class Counting(Shapes):
        reads = 0

        def __getitem__(self, index):
            Counting.reads += 1
            return shapes.draw_scene(self.seed, index)

    data = Counting(3, seed=1)
    cache = Cached(data, megabytes=2 * 128 * 128 * 3 / 1e6)
    twice = [cache[i] for _ in range(2) for i in range(3)]
    assert Counting.reads == 4  # the third image found no room
    assert all(np.array_equal(a.image, b.image) for a, b in zip(twice[:3], twice[3:], strict=True))
    assert len(cache) == 3
    assert list(cache.classes) == list(data.classes)
    assert cache.truth(1).labels.tolist() == data[1].labels.tolist()


def test_a_view_is_as_long_as_its_data():
    assert len(AugmentedView(Shapes(4), lambda s, rng: s, 0)) == 4


def test_devices():
    assert workshop.choose_device("cpu").type == "cpu"
    assert workshop.choose_device().type == ("cuda" if torch.cuda.is_available() else "cpu")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="sees no GPU"):
            workshop.choose_device("cuda")


@pytest.mark.parametrize(("splits", "given", "sizes"), [
    (("train", "val"), (None, None), (4, 2)), (("trainval", "test", "train"), (None, None), (4, 2)),
    (("train", "val", "mine"), ("val", "train"), (2, 4)), (("trainval",), (None, None), (4, 1)),
])  # fmt: skip
def test_splits_are_chosen_as_the_help_says(splits, given, sizes, tmp_path):
    first = Shapes(5 if len(splits) == 1 else 4, seed=1)
    first.write_voc(tmp_path, splits[0])
    if len(splits) > 1:
        Shapes(2, seed=2).write_voc(tmp_path, splits[1])
    for extra in splits[2:]:
        (tmp_path / "ImageSets" / "Main" / f"{extra}.txt").write_text("")
    training, test = workshop.open_splits(tmp_path, given)
    assert (len(training), len(test)) == sizes
    assert {training[i].name for i in range(len(training))}.isdisjoint({test[i].name for i in range(len(test))})
    assert test.truth(0).name == test[0].name


def test_a_crowded_scene_gives_up_on_an_object():
    """With the whole image taken by small objects no large one can be laid over them."""
    owner = np.zeros((128, 128), np.uint8)
    full = []
    for number, (y, x) in enumerate(np.ndindex(15, 15)):
        owner[y * 8 + 2 : y * 8 + 6, x * 8 + 2 : x * 8 + 6] = number + 1
        full.append(16)
    before = owner.copy()
    assert shapes._place(owner, full, np.random.default_rng(0), "square") is None
    assert np.array_equal(owner, before)
    assert len(full) == 225
