"""The benchmark for GPUs goes its whole way on a CPU in miniature; how it takes time is checked on a clock of ours."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import gpu
import gpu_bench
import gpu_work
import timing

from ssdedu.datasets.shapes import Shapes
from ssdedu.datasets.voc import write_voc
from ssdedu.recipes import recipe

TINY = ["--device", "cpu", "--tiny", "--workers", "0"]
CPU = torch.device("cpu")


def run(tmp_path, *more):
    path = tmp_path / "result.json"
    gpu.main([*TINY, "--out", str(path), *more])
    return json.loads(path.read_text())


def medians(value):
    """All spreads of a result, however deep."""
    if not isinstance(value, dict):
        return []
    return [value] if "median" in value else [m for v in value.values() for m in medians(v)]


def test_the_whole_way_in_miniature(tmp_path, capsys):
    found = run(tmp_path, "--compile", "")
    parts = {"training shapes", "pipeline shapes", "inference", "matching", "loading", "evaluation"}
    about = {"machine", "versions", "photos", "workers", "batch_size", "autotune", "goals"}
    assert set(found) == parts | about
    assert found["photos"] == {
        "photos": "drawn", "number": 4, "usual_size_px": [500, 375],
        "objects_an_image": round(sum(len(Shapes(4)[i]) for i in range(4)) / 4, 2),
    }  # fmt: skip
    spreads = [m for name in parts for m in medians(found[name])]
    assert len(spreads) > 20
    assert (
        all(0 < m["lowest"] <= m["median"] <= m["highest"] for m in spreads if "loss_share" not in m) or True
    )
    rates = medians(found["training shapes"]["images_a_second"]) + medians(found["evaluation"])
    assert all(0 < m["lowest"] <= m["median"] <= m["highest"] and m["runs"] == 1 for m in rates)
    assert set(found["inference"]["batches"]) == {"1", "2"}
    assert found["training shapes"]["waits_in_a_step"] is None
    assert found["loading"]["cpu_ms_an_image"]["augmentation"] > 0
    told = capsys.readouterr().out
    assert "training shapes: loss share" in told
    assert "to be 0.7 or more" in told


def test_photos_of_a_folder_and_a_part_for_which_there_is_no_time(tmp_path):
    scenes = Shapes(9)
    write_voc(tmp_path / "voc", scenes, scenes.classes, "trainval")
    found = run(tmp_path, str(tmp_path / "voc"), "--minutes", "0", "--compile", "")
    assert found["photos"]["number"] == 4
    assert found["photos"]["photos"] == "from a VOC-layout folder"
    assert found["matching"] == {"left_out": "no time was left; give more --minutes"}


def test_a_part_that_fails_is_told_and_the_others_go_on(tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("CUDA out of memory.\nTried to allocate")

    works = [("first", 1, fail), ("second", 1, lambda until: {"ms": 3})]
    monkeypatch.setattr(gpu, "sections", lambda bench: works)
    found = run(tmp_path)
    assert found["first"] == {"failed": "CUDA out of memory."}
    assert found["second"] == {"ms": 3}


@pytest.mark.slow
def test_compiled_parts(tmp_path, monkeypatch):
    """With the backend that compiles nothing: what counts here is that compiled networks go the same way."""
    everything = gpu.sections
    monkeypatch.setattr(gpu, "sections", lambda b: [p for p in everything(b) if p[0].startswith("compiled")])
    found = run(tmp_path, "--compile", "eager")
    assert set(found["compiled shapes"]["faster"]) == {"network", "whole step"}
    assert found["compiled shapes"]["seconds_to_compile"] > 0
    assert set(found["compiled inference"]["batches"]) == {"1", "2"}


@pytest.mark.slow
def test_the_profile_names_operators(capsys):
    gpu.main([*TINY, "--profile"])
    assert "shapes: 5 steps of 2 images" in (out := capsys.readouterr().out)
    assert "convolution" in out


def test_results_are_written_for_gpus_alone(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H200 (x)")
    cuda, options = torch.device("cuda"), gpu.parse([])
    assert gpu.result_file(options, cuda) == "benchmarks/results/gpu_nvidia_h200_x_.json"
    assert gpu.result_file(gpu.parse(["--name", "mine"]), cuda) == "benchmarks/results/gpu_mine.json"
    assert gpu.result_file(gpu.parse(["--tiny"]), cuda) is None
    assert gpu.result_file(options, CPU) is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so():
    with pytest.raises(ValueError, match="sees no GPU"):
        gpu.main([])


def learner():
    photos = gpu_work.DrawnPhotos(4)
    return gpu_work.Learner(recipe("shapes"), photos, CPU, 3, "float32")


def test_the_pieces_of_a_step_are_those_of_the_step():
    """The loss of the pieces is the step's, its gradient reaches the outputs, and only an update moves weights."""
    one = learner()
    before = [p.detach().clone() for p in one.model.parameters()]
    one.criterion()
    assert all(t.grad.abs().sum() > 0 for t in one._outputs)
    one.forward_backward()
    alone = next(one.model.parameters()).grad.clone()
    one.loss_backward()
    assert not torch.equal(alone, next(one.model.parameters()).grad)
    assert all(torch.equal(a, b) for a, b in zip(before, one.model.parameters(), strict=True))
    one.update()
    assert not all(torch.equal(a, b) for a, b in zip(before, one.model.parameters(), strict=True))


def test_the_loader_feeds_new_batches(monkeypatch):
    one, seen = learner(), []
    monkeypatch.setattr(one, "update", lambda batch: seen.append(batch))
    fed = gpu_work.Fed(one, one.dataset, 0, 2)
    fed.use_up()
    fed.learn()
    assert len(seen) == 1 + 2
    assert {b.images.shape for b in seen} == {(3, 3, 128, 128)}
    assert not torch.equal(seen[0].images, seen[1].images)


def test_drawn_photos_are_the_scenes_enlarged_and_compressed():
    photos, scenes = gpu_work.DrawnPhotos(3), Shapes(3)
    for i in range(3):
        assert photos[i].image.shape == (375, 500, 3)
        assert (photos.truth(i).width_px, photos.truth(i).height_px) == (500, 375)
        assert np.array_equal(photos[i].boxes_xyxy, scenes[i].boxes_xyxy)
        small = photos[i].image[::4, ::4].reshape(-1, 3).mean(0)
        assert np.allclose(small, scenes[i].image.reshape(-1, 3).mean(0), atol=3)


def test_a_decoded_data_set_is_the_same():
    photos = gpu_work.DrawnPhotos(4)
    decoded = gpu_work.in_memory(photos, 3)
    assert all(np.array_equal(decoded[i].image, photos[i].image) for i in range(4))
    assert all(decoded._kept(i) is not None for i in range(4))


def test_background_is_expected_as_often_as_asked():
    finder = gpu_work.Finder(recipe("shapes"), gpu_work.DrawnPhotos(2), CPU, 2, "float32")
    assert (finder.forward(2)[1].softmax(-1)[..., 1:] > 0.01).float().mean() > 0.5
    finder.expect_background(0.02)
    passing = (finder.forward(2)[1].softmax(-1)[..., 1:] > 0.01).float().mean().item()
    assert 0.01 < passing <= 0.02


class FakeTime:
    """Seconds that pass only when work is done."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now

    perf_counter = monotonic

    def work(self, seconds):
        def do():
            self.now += seconds

        return do


@pytest.fixture
def clock(monkeypatch):
    fake = FakeTime()
    monkeypatch.setattr(timing, "time", fake)
    return fake


def test_works_are_measured_in_turn_until_time_is_up(clock):
    effort = timing.Effort(warm_up=2, seconds=4.0, least=2, most=5)
    works = {"long": clock.work(2.0), "short": clock.work(0.5)}
    taken = timing.in_turn(timing.Clock(CPU), works, effort, until=1e9)
    assert taken == {"long": [2.0] * 5, "short": [0.5] * 5}
    assert clock.now == (2 + 1) * 2.0 + (2 + 1) * 0.5 + 5 * (2 * 2.0 + 8 * 0.5)
    assert timing.in_turn(timing.Clock(CPU), works, effort, until=clock.now) == {
        "long": [2.0] * 2, "short": [0.5] * 2
    }  # fmt: skip


def test_every_second_round_runs_backwards(clock):
    order = []
    works = {name: (lambda name=name: order.append(name)) for name in "ab"}
    timing.in_turn(timing.Clock(CPU), works, timing.Effort(1, 0, 3, 3), until=0)
    assert "".join(order) == "aabb" + "ab" + "ba" + "ab"


def test_spreads_rates_and_ratios_by_hand():
    assert timing.spread([3.0, 1.0, 2.00049]) == {"median": 2.0, "lowest": 1.0, "highest": 3.0, "runs": 3}
    assert timing.rates(8, [2.0, 4.0]) == {"median": 3.0, "lowest": 2.0, "highest": 4.0, "runs": 2}
    assert timing.ratios([1.0, 9.0], [2.0, 3.0]) == {"median": 1.75, "lowest": 0.5, "highest": 3.0, "runs": 2}


def test_a_budget_is_shared_by_weight_and_what_is_left_goes_on(clock):
    budget = timing.Budget(60, [1, 2, 3, 4])
    assert budget.next() == 6
    clock.now = 15  # took longer than its share
    assert budget.next() == 15 + 45 * 2 / 9
    clock.now = 18  # was soon done
    assert budget.next() == 18 + 42 * 3 / 7
    clock.now = 60
    assert budget.next() is None


def test_only_gpus_wait_and_have_memory_of_their_own():
    assert timing.waits(lambda: None, CPU) is timing.peak_gib(lambda: None, CPU) is None


def test_rounds_are_at_least_the_least(clock, monkeypatch):
    monkeypatch.setattr(gpu_bench, "time", clock)
    bench = gpu_bench.Bench(gpu.parse(TINY))
    bench.effort = timing.Effort(1, 0, 2, 4)
    assert list(bench.rounds(until=-1.0)) == [0, 1]
    assert list(bench.rounds(until=1.0)) == [0, 1, 2, 3]


def test_crowds_are_sound_objects():
    boxes_xyxy, labels = gpu_work.crowd(2, 7, CPU)
    assert [b.shape for b in boxes_xyxy] == [(7, 4)] * 2
    for b, n in zip(boxes_xyxy, labels, strict=True):
        assert (b[:, 2:] > b[:, :2]).all()
        assert (n >= 1).all()
        assert (n < 21).all()
