"""Training and matching never wait for a GPU: shown without one, by what they ask of tensors.

`pretended_gpu` makes every tensor say that it lies on a GPU, and refuses what would wait for its numbers. On the meta
device there are no numbers to wait for; with tensors of the CPU the form for GPUs gives the numbers to compare.
"""

import contextlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_matching import grid_priors, random_objects
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ssdedu import boxes, matching, priors
from ssdedu.batches import Batch
from ssdedu.detect import detect
from ssdedu.loss import multibox_loss
from ssdedu.mining import hard_negatives
from ssdedu.model import SSD
from ssdedu.padding import pad_objects
from ssdedu.precision import autocast, forward_dtype
from ssdedu.train import Settings, batch_loss

READS = {"_local_scalar_dense", "item", "equal", "is_nonzero", "allclose"}
SHAPES_FROM_NUMBERS = {
    "nonzero", "masked_select", "_unique", "_unique2", "unique_dim", "unique_consecutive", "bincount",
    "repeat_interleave", "argwhere",
}  # fmt: skip
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_"}
COPIES = {"_to_copy", "copy_"}


def waits(name, arguments, options):
    """Whether an operator needs numbers of its tensors on the host, or a copy that is waited for."""
    if name in READS | SHAPES_FROM_NUMBERS:
        return options.get("output_size") is None
    tensors = [t for t in tree_leaves(arguments) if isinstance(t, torch.Tensor)]
    if name in INDEXING:
        return any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in arguments[1])
    if name in COPIES:
        places = {t.device for t in tensors} | {torch.device(options.get("device") or tensors[0].device)}
        quick = options.get("non_blocking") or (name == "copy_" and len(arguments) > 2 and arguments[2])
        return len(places) > 1 and not quick
    return False


class Watch(TorchDispatchMode):
    """Counts the operators that wait; refuses them unless they may be."""

    def __init__(self, allowed):
        super().__init__()
        self.allowed, self.seen = allowed, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name, options = func._schema.name.removeprefix("aten::"), kwargs or {}
        if waits(name, args, options):
            self.seen.append(name)
            assert len(self.seen) <= self.allowed, f"waits for the GPU: {', '.join(self.seen)}"
        return func(*args, **options)


class Pretend(TorchFunctionMode):
    """Every tensor says that it lies on a GPU; numbers of Python do not go there by a copy that is waited for."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        options = kwargs or {}
        if getattr(func, "__self__", None) is torch.Tensor.is_cuda:
            return True
        there = torch.device(options.get("device") or "cpu").type != "cpu"
        if func is torch.Tensor.new_tensor or (func in (torch.tensor, torch.as_tensor) and there):
            raise AssertionError("waits for the GPU: a tensor made of Python's numbers")
        return func(*args, **options)


@contextlib.contextmanager
def pretended_gpu(allowed=0):
    with Pretend(), Watch(allowed) as watch:
        yield watch


def image_objects(counts, seed, copies=1):
    """Boxes and labels of images, each object `copies` times, so that default boxes are fought over."""
    rng = np.random.default_rng(seed)
    b = [random_objects(rng, n).repeat(copies, 1) for n in counts]
    return b, [torch.tensor(rng.integers(1, 21, len(x)), dtype=torch.int64) for x in b]


def assert_same(found, expected):
    for got, wanted in zip(found, expected, strict=True):
        assert got.dtype == wanted.dtype
        assert torch.equal(got, wanted)


NUMBERS = torch.arange(6.0).view(2, 3)


@pytest.mark.parametrize("look", [
    lambda x: x.sum().item(), lambda x: int(x.max()), lambda x: bool((x > 0).any()), lambda x: x[x > 2],
    lambda x: x.nonzero(), lambda x: (x > 2).nonzero(as_tuple=True), lambda x: x.masked_select(x > 2),
    lambda x: x.unique(), lambda x: torch.equal(x, x), lambda x: x.clone().__setitem__(x > 2, 1.0),
    lambda x: x[0].repeat_interleave(x[1].long()), lambda x: x.long().flatten().bincount(),
    lambda x: torch.tensor([1.0], device="meta"), lambda x: x.new_tensor([1.0]),
    lambda x: x.to("meta"), lambda x: torch.allclose(x, x),
    lambda x: torch.empty(2, 3, device="meta").copy_(x),
])  # fmt: skip
def test_the_watch_sees_who_waits(look):
    with pytest.raises(AssertionError, match="waits for the GPU"), pretended_gpu():
        look(NUMBERS)


@pytest.mark.parametrize("ahead", [
    lambda x: x[torch.tensor([1, 0])], lambda x: x.where(x > 2, 0).sum(), lambda x: x.argsort(1),
    lambda x: x[0].repeat_interleave(x[1].long(), output_size=12), lambda x: x.to("meta", non_blocking=True),
    lambda x: torch.empty(2, 3, device="meta").copy_(x, non_blocking=True), lambda x: x.long(),
])  # fmt: skip
def test_the_watch_lets_pass_what_runs_ahead(ahead):
    with pretended_gpu() as watch:
        assert NUMBERS.is_cuda
        ahead(NUMBERS)
    assert watch.seen == []


def test_the_watch_would_refuse_the_form_for_the_cpu():
    b, labels = image_objects((2,), 0)
    with pytest.raises(AssertionError, match="waits for the GPU"), Watch(0):
        matching.encode_targets(b, labels, grid_priors())


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=4),
    st.integers(0, 10_000),
    st.integers(1, 3),
    st.sampled_from(["ssd", "multibox", "threshold"]),
    st.sampled_from([0.2, 0.5, 0.9]),
)
@settings(deadline=None, max_examples=40)
def test_the_form_for_gpus_gives_the_very_numbers_of_the_cpus(counts, seed, copies, rule, threshold):
    p = grid_priors()
    b, labels = image_objects(counts, seed, copies)
    expected = matching.match_batch(b, labels, p, threshold, rule)
    targets = matching.encode_targets(b, labels, p, threshold=threshold, rule=rule)
    padded = pad_objects(b, labels)
    assert_same(matching.match_batch(*padded, p, threshold, rule), expected)
    with Pretend():
        assert_same(matching.match_batch(b, labels, p, threshold, rule), expected)
        assert_same(matching.encode_targets(b, labels, p, threshold=threshold, rule=rule), targets)
        assert_same(matching.match_batch(*padded, p, threshold, rule), expected)
        assert_same(matching.encode_targets(*padded, p, threshold=threshold, rule=rule), targets)


@given(st.integers(1, 7), st.integers(1, 9), st.integers(0, 10_000), st.integers(1, 6))
@settings(deadline=None, max_examples=80)
def test_offers_settle_as_greedy_choice_whatever_the_ties(num_objects, num_priors, seed, values):
    """Few distinct IoU, 0 among them: more objects than default boxes, ties in rows and in columns."""
    rng = np.random.default_rng(seed)
    table = rng.integers(0, values + 1, (3, num_objects, num_priors)) / values
    overlaps = torch.tensor(table, dtype=torch.float32)
    overlaps[0, -1] = -1  # a row of padding
    expected = matching.bipartite(overlaps)
    with Pretend():
        assert_same([matching.bipartite(overlaps)], [expected])


def test_the_longest_chain_of_refusals_is_followed_to_its_end():
    """Object g prefers default box 0 and loses it to g - 1, whose next wish is taken too: G - 1 rounds are needed."""
    n = 12
    g, p = torch.arange(n)[:, None], torch.arange(n)[None, :]
    overlaps = (0.9 - 0.05 * p - 0.001 * g)[None]
    assert matching.bipartite(overlaps).tolist() == [list(range(n))]
    with pretended_gpu():
        assert matching.bipartite(overlaps)[0].tolist() == list(range(n))


def test_a_hundred_crowded_objects_and_ssd300():
    p = priors.default_boxes(priors.SSD300_VOC)
    b, labels = image_objects((20, 0, 1), 4, copies=5)
    expected = matching.encode_targets(b, labels, p)
    with pretended_gpu():
        found = matching.encode_targets(b, labels, p)
    assert_same(found, expected)
    assert [len(x) for x in b] == [100, 0, 5]


def test_a_batch_without_any_object():
    p = grid_priors()
    b, labels = image_objects((0, 0), 0)
    expected = matching.encode_targets(b, labels, p)
    with pretended_gpu():
        found = matching.encode_targets(b, labels, p)
        again = matching.encode_targets(*pad_objects(b, labels), p)
    assert_same(found + again, expected + expected)


@pytest.mark.parametrize(("box", "label"), [([0.5, 0.5, 0.5, 0.6], 1), ([0.1, 0.1, 0.5, 0.6], 0)])
def test_bad_objects_stop_the_device_program(box, label):
    b, labels = [torch.tensor([box])], [torch.tensor([label])]
    for objects in ((b, labels), (b[0][None], labels[0][None])):
        with pytest.raises(RuntimeError), pretended_gpu():
            matching.encode_targets(*objects, grid_priors())


@given(st.integers(0, 10_000), st.floats(0, 1), st.sampled_from([0, 3, 2.5]), st.integers(0, 6))
@settings(deadline=None, max_examples=20)
def test_mining_and_loss_are_the_cpus(seed, share, ratio, minimum):
    rng = np.random.default_rng(seed)
    labels = torch.tensor(rng.integers(1, 4, (3, 15)) * (rng.uniform(size=(3, 15)) < share))
    offsets, logits, targets = (torch.tensor(rng.normal(0, 2, (3, 15, n))).float() for n in (4, 4, 4))
    parts = (offsets, logits, targets, labels)
    expected = multibox_loss(*parts, ratio=ratio, min_negatives=minimum)
    mask = hard_negatives(logits[..., 0], labels > 0, ratio, minimum)
    with Pretend():
        found = multibox_loss(*parts, ratio=ratio, min_negatives=minimum)
        assert_same([hard_negatives(logits[..., 0], labels > 0, ratio, minimum)], [mask])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def meta_batch(config, counts, where):
    b, labels = image_objects(counts, 1)
    images = torch.zeros(len(counts), 3, config.height_px, config.width_px, dtype=torch.uint8, device="meta")
    return Batch(images, [x.to(where) for x in b], [n.to(where) for n in labels], ["?"] * len(counts))


@pytest.mark.parametrize(("config", "base", "counts", "where"), [
    (priors.SHAPES128, "small", (0, 0), "cpu"), (priors.SHAPES128, "small", (0, 0), "meta"),
    (priors.SHAPES128, "small", (1, 0), "meta"), (priors.SHAPES128, "small", (3, 40), "cpu"),
    (priors.SSD300_VOC, "vgg16_bn", (3, 9), "meta"), (priors.SSD300_MOBILENET, "mobilenet", (3, 9), "cpu"),
])  # fmt: skip
def test_a_training_step_runs_ahead_of_the_gpu(config, base, counts, where):
    """Forward, matching, mining, loss and backward where there is no number to read; objects on either side."""
    with torch.device("meta"):
        net = SSD(config, 21, base).train().to("meta")
    batch = meta_batch(config, counts, where)
    with pretended_gpu():
        loss = batch_loss(net, batch, Settings(precision="float32"))
        loss.total.backward()
    assert loss.total.is_meta
    assert all(p.grad.shape == p.shape for p in net.parameters())


def outputs(seed, batch=3, classes=5):
    rng = np.random.default_rng(seed)
    p = priors.default_boxes(priors.SHAPES128_ONE_MAP)[::7]
    offsets = torch.tensor(rng.normal(0, 1, (batch, len(p), 4)), dtype=torch.float32)
    return offsets, torch.tensor(rng.normal(0, 2, (batch, len(p), classes)), dtype=torch.float32), p


@pytest.mark.parametrize("options", [
    {}, {"score_threshold": 0.3}, {"max_detections": 7}, {"max_detections": None}, {"score_threshold": 0.9999},
    {"max_log_size": 1.0, "clip_first": True},
])  # fmt: skip
def test_detection_waits_twice_besides_its_one_transfer(options):
    """For how many candidates there are, and whether suppression has settled; the results as on a CPU."""
    case = outputs(3)
    expected = detect(*case, **options)
    with pretended_gpu(allowed=2) as watch:
        found = detect(*case, **options)
    for got, wanted in zip(found, expected, strict=True):
        assert_same(
            (got.boxes_xyxy, got.scores, got.labels), (wanted.boxes_xyxy, wanted.scores, wanted.labels)
        )
    assert watch.seen == ["equal"]  # tolist of a CPU's tensor is no operator


@given(st.integers(1, 40), st.integers(0, 10_000), st.floats(0.05, 0.9))
@settings(deadline=None, max_examples=20)
def test_suppression_in_unread_rounds_keeps_the_same(n, seed, threshold):
    """Also chains longer than the rounds between two looks: a row of boxes each of which covers the next."""
    b = random_objects(np.random.default_rng(seed), n)
    row = torch.stack([torch.tensor([0.02 * i, 0.0, 0.02 * i + 0.05, 1.0]) for i in range(n)])
    for case in (b, row):
        expected = boxes.nms_sorted(case, threshold)
        with pretended_gpu(allowed=6) as watch:  # 40 rounds, 8 to a look, and a last look
            found = boxes.nms_sorted(case, threshold)
        assert_same([found], [expected])
        assert set(watch.seen) == {"equal"}


def test_padded_objects_by_hand():
    b, labels = pad_objects(
        [torch.ones(0, 4), torch.tensor([[0, 0, 1, 1], [0, 0, 0.5, 1]])],
        [torch.tensor([]), torch.tensor([3, 2])],
    )
    assert labels.tolist() == [[0, 0], [3, 2]]
    assert b.tolist() == [[[0.0] * 4] * 2, [[0, 0, 1, 1], [0, 0, 0.5, 1]]]
    assert (b.dtype, labels.dtype) == (torch.float32, torch.int64)


def test_padding_may_stand_anywhere():
    p = grid_priors()
    b, labels = image_objects((3,), 5)
    spread = torch.zeros(2, 6, 4).index_put((torch.tensor([0] * 3), torch.tensor([1, 2, 4])), b[0])
    names = torch.zeros(2, 6, dtype=torch.int64).index_put(
        (torch.tensor([0] * 3), torch.tensor([1, 2, 4])), labels[0]
    )
    found, expected = matching.match_batch(spread, names, p), matching.match(b[0], labels[0], p)
    assert torch.equal(found.labels[0], expected.labels)
    assert found.labels[1].sum() == 0


@pytest.mark.parametrize(("b", "labels", "message"), [
    (torch.zeros(2, 3, 4), torch.ones(2, 2, dtype=torch.int64), r"padded objects.*\(2, 3, 4\) and \(2, 2\)"),
    (torch.zeros(0, 3, 4), torch.ones(0, 3, dtype=torch.int64), "B above 0"),
    (torch.zeros(1, 1, 4), torch.ones(1, 1), "labels must be whole numbers"),
    (torch.zeros(1, 1, 4), torch.ones(1, 1, dtype=torch.int64), "degenerate"),
    (torch.tensor([[[0, 0, 0.5, 1]]]), torch.zeros(1, 1, dtype=torch.int64), "start at 1"),
    (torch.tensor([[[0, 0, 0.5, 1]]]), -torch.ones(1, 1, dtype=torch.int64), "start at 1"),
])  # fmt: skip
def test_errors_of_padded_objects_are_clear(b, labels, message):
    with pytest.raises(ValueError, match=message):
        matching.match_batch(b, labels, grid_priors())


def test_precision_by_name():
    cpu, nowhere = torch.device("cpu"), torch.device("meta")
    for name in ("float32", "bfloat16", "float16"):
        assert forward_dtype(cpu, name) == getattr(torch, name)
    assert forward_dtype(nowhere, "auto") == torch.float32
    with pytest.raises(
        ValueError, match="precision must be one of auto, float32, bfloat16, float16, got 'double'"
    ):
        forward_dtype(cpu, "double")
    x = torch.ones(2, 2)
    with autocast(cpu, "bfloat16"):
        assert (x @ x).dtype == torch.bfloat16
        with autocast(cpu, "float32"):
            assert (x @ x).dtype == torch.float32
    with autocast(nowhere, "auto"):
        assert torch.ones(2, 2, device="meta").dtype == torch.float32


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_nothing_waits_and_the_numbers_are_the_cpus():
    b, labels = image_objects((3, 0, 1, 30), 7, copies=2)
    p = priors.default_boxes(priors.SSD300_VOC)
    expected = matching.encode_targets(b, labels, p)
    there = [[x.cuda() for x in values] for values in (b, labels)]
    net = SSD(priors.SHAPES128, 21, "small").cuda().train()
    batch = Batch(torch.zeros(4, 3, 128, 128, dtype=torch.uint8).cuda(), *there, ["?"] * 4)
    batch_loss(net, batch, Settings()).total.backward()  # loads what is loaded once
    p = p.cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = [matching.encode_targets(*objects, p) for objects in (there, (b, labels))]
        batch_loss(net, batch, Settings()).total.backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for targets in found:
        assert torch.equal(targets.labels.cpu(), expected.labels)
        torch.testing.assert_close(targets.offsets.cpu(), expected.offsets, rtol=1e-5, atol=1e-5)
