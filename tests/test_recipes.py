"""Recipes, and the choice of splits and device."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from ssdedu import workshop
from ssdedu.batches import AugmentedView
from ssdedu.boxes import cxcywh_to_xyxy, iou
from ssdedu.datasets import shapes
from ssdedu.datasets.shapes import Shapes
from ssdedu.model import parameter_groups
from ssdedu.priors import default_boxes
from ssdedu.recipes import DEMO, RECIPES, recipe
from ssdedu.splits import names_of, open_splits


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
    assert (augment.width_px, augment.height_px, augment.max_ratio) == (
        c.width_px,
        c.height_px,
        chosen.max_zoom_out,
    )
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
    s = workshop._settings(recipe("ssd300"), {"iterations": 12_000, "lr": None}, pretrained=True)
    assert (s.milestones, s.lr) == ((8_000, 10_000), 1e-3)
    longer = workshop._settings(recipe("small"), {"iterations": 15_000}, pretrained=False)
    assert longer.warmup == recipe("small").settings.warmup


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
    training, test = open_splits(tmp_path, given)[:2]
    assert (len(training), len(test)) == sizes
    assert {training[i].name for i in range(len(training))}.isdisjoint(
        {test[i].name for i in range(len(test))}
    )
    assert test.truth(0).name == test[0].name


def lay_out(root, **splits):
    """Ten scenes and split files of the numbers given, such as trainval="01234"."""
    Shapes(10, seed=1).write_voc(root, None)
    ids = sorted(p.stem for p in (root / "Annotations").iterdir())
    lists = root / "ImageSets" / "Main"
    lists.mkdir(parents=True, exist_ok=True)
    for name, numbers in splits.items():
        (lists / f"{name}.txt").write_text("\n".join(ids[int(n)] for n in numbers))
    return ids


@pytest.mark.parametrize(("present", "given", "training", "test"), [
    ({"mine": "89"}, (None, "mine"), "01234567", "89"),
    ({"trainval": "0123456", "mine": "89"}, (None, "mine"), "0123456", "89"),
    ({"trainval": "0123456", "mine": "56"}, (None, "mine"), "01234", "56"),
    ({"trainval": "0123", "train": "012", "val": "3"}, (None, "val"), "012", "3"),
    ({"train": "01", "val": "56789"}, ("val", None), "5678", "9"),
    ({"test": "01"}, (None, None), "23456789", "01"),
    ({"test": "0123456789", "mine": "12"}, ("test", "mine"), "0123456789", "12"),
])  # fmt: skip
def test_no_image_trains_and_measures(present, given, training, test, tmp_path):
    ids = lay_out(tmp_path, **present)
    said = []
    opened = open_splits(tmp_path, given, say=said.append)
    assert names_of(opened.training) == [ids[int(n)] for n in training]
    assert names_of(opened.test) == [ids[int(n)] for n in test]
    assert any("trained on and measured" in line for line in said) == (set(training) & set(test) != set())


def test_the_folder_above_a_single_voc_folder_has_its_splits(tmp_path):
    lay_out(tmp_path / "VOC2007", trainval="0123", test="56")
    opened = open_splits(tmp_path)
    assert (len(opened.training), len(opened.test)) == (4, 2)
    assert (opened.split, opened.test_split) == ("trainval", "test")


def test_several_folders(tmp_path):
    """Each with its own training split; those with a test split alone are only measured on."""
    lay_out(tmp_path / "a", trainval="0123")
    lay_out(tmp_path / "b", trainval="01234", val="34")
    lay_out(tmp_path / "c", test="67")
    both = open_splits([tmp_path / "a", tmp_path / "b"])
    assert (len(both.training), len(both.test)) == (8, 1)
    three = open_splits([tmp_path / "a", tmp_path / "b", tmp_path / "c"])
    assert (len(three.training), len(three.test)) == (9, 2)
    with pytest.raises(ValueError, match="give --split"):
        open_splits([tmp_path / "a", tmp_path / "b"], (None, "val"))
    with pytest.raises(ValueError, match="no split 'gone'"):
        open_splits([tmp_path / "a", tmp_path / "b"], (None, "gone"))


def test_nothing_left_to_train_on(tmp_path):
    lay_out(tmp_path, test="0123456789")
    with pytest.raises(ValueError, match="none is left"):
        open_splits(tmp_path)


def test_detection_does_not_need_training():
    code = "import sys, ssdedu.inference; assert 'ssdedu.train' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_only_a_plain_vgg_is_warned_about():
    assert {name for name in RECIPES if recipe(name).from_random_vgg} == {"ssd300", "ssd512"}


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


def test_layers_are_frozen_only_where_they_were_trained_before():
    mobilenet = recipe("mobilenet")
    assert mobilenet.settings.frozen_layers > 0
    assert (
        workshop._settings(mobilenet, {}, pretrained=True).frozen_layers == mobilenet.settings.frozen_layers
    )
    assert workshop._settings(mobilenet, {}, pretrained=False).frozen_layers == 0
    assert workshop._settings(mobilenet, {"frozen_layers": 3}, pretrained=False).frozen_layers == 3


def test_the_reader_is_told_where_random_weights_are_not_what_a_recipe_is_made_for():
    said = {name: workshop._from_random(recipe(name)) for name in RECIPES}
    assert {name for name, text in said.items() if "VGG16" in text} == {"ssd300", "ssd512"}
    assert {name for name, text in said.items() if "voc2007_mobilenet" in text} == {"mobilenet"}


def test_the_demo_shows_its_scenes_as_they_are_or_mirrored():
    scene, transform = Shapes(1)[0], DEMO.augmentation()
    seen = [transform(scene, np.random.default_rng(i)).image for i in range(12)]
    mirrored = [np.array_equal(image, scene.image[:, ::-1]) for image in seen]
    assert all(m or np.array_equal(image, scene.image) for m, image in zip(mirrored, seen, strict=True))
    assert 0 < sum(mirrored) < 12


def test_the_demo_matches_from_where_its_default_boxes_reach_nearly_all_objects():
    boxes = torch.cat([torch.from_numpy(Shapes(300, 7)[i].boxes_xyxy) for i in range(300)])
    best = iou(boxes, cxcywh_to_xyxy(default_boxes(DEMO.config))).amax(1)
    assert (best >= DEMO.settings.threshold).float().mean() > 0.97
    assert 0.7 < (best >= 0.5).float().mean() < 0.8
