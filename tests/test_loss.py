"""Loss and mining against loops over boxes, and against numbers worked out by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssdedu.loss import _background_loss, _localization_sum, _sum_where, multibox_loss, smooth_l1
from ssdedu.mining import hard_negatives


def slow_negatives(loss, positive, ratio, minimum):
    """Per image: sort the unmatched by loss, take as many as allowed."""
    mask = np.zeros(positive.shape, bool)
    for b in range(len(loss)):
        unmatched = [p for p in range(loss.shape[1]) if not positive[b, p]]
        unmatched.sort(key=lambda p: -loss[b, p])
        wanted = max(int(ratio * positive[b].sum()), minimum)
        mask[b, unmatched[:wanted]] = True
    return mask


def slow_loss(offsets, logits, targets, labels, ratio=3):
    """The double sum of Eq. 1-3, in plain Python floats."""
    entropy = np.zeros(labels.shape)
    for b in range(labels.shape[0]):
        for p in range(labels.shape[1]):
            e = [math.exp(v) for v in logits[b, p]]
            entropy[b, p] = -math.log(e[labels[b, p]] / sum(e))
    positive = labels > 0
    chosen = positive | slow_negatives(entropy, positive, ratio, 0)
    localization = 0.0
    for b, p in zip(*np.nonzero(positive), strict=True):
        for d in np.abs(offsets[b, p] - targets[b, p]):
            localization += 0.5 * d * d if d < 1 else d - 0.5
    n = max(1, positive.sum())
    return localization / n, entropy[chosen].sum() / n


def random_case(seed, batch=2, num=12, classes=4, share=0.3):
    rng = np.random.default_rng(seed)
    labels = rng.integers(1, classes, (batch, num)) * (rng.uniform(size=(batch, num)) < share)
    return (
        rng.normal(0, 2, (batch, num, 4)),
        rng.normal(0, 2, (batch, num, classes)),
        rng.normal(0, 2, (batch, num, 4)),
        labels,
    )


@given(st.integers(0, 10_000), st.floats(0, 1), st.floats(0, 5))
@settings(deadline=None, max_examples=60)
def test_loss_equals_the_loops(seed, share, ratio):
    case = random_case(seed, share=share)
    got = multibox_loss(*map(torch.tensor, case), ratio=ratio)
    expected = slow_loss(*case, ratio=ratio)
    assert got.localization.item() == pytest.approx(expected[0], abs=1e-5)
    assert got.confidence.item() == pytest.approx(expected[1], rel=1e-5, abs=1e-5)
    assert got.total.item() == pytest.approx(sum(expected), rel=1e-5, abs=1e-5)
    assert got.num_positives.item() == (case[3] > 0).sum()
    weighted = multibox_loss(*map(torch.tensor, case), ratio=ratio, alpha=0.25)
    assert weighted.total.item() == pytest.approx(expected[1] + 0.25 * expected[0], rel=1e-5, abs=1e-5)


def test_no_positive_is_counted_twice():
    """10 positives and 10 negatives at uniform logits over 21 classes: 20 ln 21 / 10."""
    labels = torch.tensor([[1] * 10 + [0] * 10])
    got = multibox_loss(torch.zeros(1, 20, 4), torch.zeros(1, 20, 21), torch.zeros(1, 20, 4), labels)
    assert got.confidence.item() == pytest.approx(6.089, abs=5e-4)
    assert got.localization.item() == 0


def test_three_box_image_by_hand():
    logits = torch.tensor([[[0.0, math.log(3)], [0.0, 0.0], [math.log(9), 0.0]]])
    labels = torch.tensor([[1, 0, 0]])
    offsets = torch.tensor([[[0.5, -2.0, 0.0, 0.0], [9.0] * 4, [9.0] * 4]])
    got = multibox_loss(offsets, logits, torch.zeros(1, 3, 4), labels, ratio=1)
    assert got.localization.item() == pytest.approx(0.125 + 1.5)
    assert got.confidence.item() == pytest.approx(-math.log(3 / 4) - math.log(1 / 2))


@pytest.mark.parametrize("minimum", [0, 5])
def test_a_batch_without_objects_is_finite(minimum):
    offsets = torch.randn(2, 9, 4, requires_grad=True)
    logits = torch.randn(2, 9, 3, requires_grad=True)
    got = multibox_loss(
        offsets, logits, torch.zeros(2, 9, 4), torch.zeros(2, 9, dtype=torch.int64), min_negatives=minimum
    )
    got.total.backward()
    assert offsets.grad.abs().sum() == 0
    assert logits.grad.isfinite().all()
    assert got.num_positives == 0
    assert (got.total.item() > 0) == (minimum > 0)
    assert (logits.grad.abs().sum() > 0) == (minimum > 0)


def test_gradient_reaches_positives_and_mined_negatives_alone():
    case = [torch.tensor(c) for c in random_case(1, batch=3, num=30, share=0.1)]
    offsets, logits = case[0].requires_grad_(), case[1].requires_grad_()
    multibox_loss(*case).total.backward()
    entropy = torch.nn.functional.cross_entropy(
        logits.detach().flatten(0, 1), case[3].flatten(), reduction="none"
    ).view(3, 30)
    positive = case[3] > 0
    used = positive | hard_negatives(entropy, positive)
    assert torch.equal(logits.grad.abs().sum(-1) > 0, used)
    assert torch.equal(offsets.grad.abs().sum(-1) > 0, positive)


@given(
    st.integers(0, 10_000), st.floats(0, 1), st.sampled_from([0, 1, 3, 2.5]), st.integers(0, 6), st.booleans()
)
@settings(deadline=None, max_examples=80)
def test_mining_equals_the_loop(seed, share, ratio, minimum, ties):
    rng = np.random.default_rng(seed)
    loss = rng.integers(0, 3, (3, 15)).astype(float) if ties else rng.uniform(0, 5, (3, 15))
    positive = rng.uniform(size=(3, 15)) < share
    got = hard_negatives(torch.tensor(loss), torch.tensor(positive), ratio, minimum).numpy()
    np.testing.assert_array_equal(got, slow_negatives(loss, positive, ratio, minimum))
    assert not (got & positive).any()


def test_mining_is_per_image_and_passes_no_gradient():
    loss = torch.tensor([[9.0, 8.0, 7.0, 1.0], [0.1, 0.2, 0.3, 0.4]], requires_grad=True)
    positive = torch.tensor([[False] * 4, [True, False, False, False]])
    mask = hard_negatives(loss, positive, ratio=2)
    assert mask.tolist() == [[False] * 4, [False, False, True, True]]
    assert not mask.requires_grad


def test_errors_are_clear():
    zeros = torch.zeros(1, 2, 4), torch.zeros(1, 2, 3), torch.zeros(1, 2, 4)
    with pytest.raises(ValueError, match=r"labels must lie in 0 .. 2.*got 0 .. 3"):
        multibox_loss(*zeros, torch.tensor([[0, 3]]))
    with pytest.raises(ValueError, match="ratio and min_negatives"):
        hard_negatives(torch.zeros(1, 2), torch.zeros(1, 2, dtype=torch.bool), ratio=-1)


def test_smooth_l1_is_smooth_where_the_pieces_meet():
    d = torch.tensor([-1.0, 1.0, 0.0, 0.5, -3.0])
    np.testing.assert_allclose(smooth_l1(d), [0.5, 0.5, 0, 0.125, 2.5])
    below, above = smooth_l1(torch.tensor([1 - 1e-4, 1 + 1e-4])).tolist()
    assert above - below == pytest.approx(2e-4, rel=1e-2)


@pytest.mark.parametrize("positives", [0, 1, 40])
def test_sums_without_counting_are_the_same_loss(positives):
    """As on a GPU, where picking rows would wait for their number: the loss and its gradient, by masks."""
    generator = torch.Generator().manual_seed(positives)
    offsets, targets = torch.randn(2, 2, 60, 4, generator=generator)
    labels = torch.zeros(2, 60, dtype=torch.int64)
    labels.view(-1)[torch.randperm(120, generator=generator)[:positives]] = 3
    results = []
    for at_once in (False, True):
        x = offsets.clone().requires_grad_()
        total = _localization_sum(x, targets, labels > 0, 0.7, at_once)
        values, mask = x[..., 0].exp(), labels > 0
        total = total + (_sum_where(values, mask) if at_once else values[mask].sum())
        total.backward()
        results.append((total.detach(), x.grad))
    torch.testing.assert_close(results[0], results[1])
    assert (results[1][1] != 0).any() == (positives > 0)


@pytest.mark.parametrize("ratio", [0, 3, 1000])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_what_is_not_chosen_need_not_be_differentiated(ratio, kind):
    """The loss and its gradients are those of all cross-entropies, summed where they are chosen."""
    generator = torch.Generator().manual_seed(ratio)
    offsets, logits, targets = (torch.randn(3, 200, n, generator=generator).to(kind) for n in (4, 6, 4))
    labels = torch.randint(-60, 6, (3, 200), generator=generator).clamp(min=0)
    labels[1] = 0
    offsets.requires_grad_(), logits.requires_grad_()
    found = multibox_loss(offsets, logits, targets.float(), labels, ratio=ratio)
    found.total.backward()
    gradients = [offsets.grad, logits.grad]
    offsets.grad = logits.grad = None
    entropy = torch.nn.functional.cross_entropy(logits.float().mT, labels, reduction="none")
    chosen = (labels > 0) | hard_negatives(entropy, labels > 0, ratio)
    n = (labels > 0).sum()
    difference = (offsets.float() - targets.float()) * (labels > 0)[..., None]
    total = entropy.where(chosen, 0).sum() / n + smooth_l1(difference).sum() / n
    total.backward()
    torch.testing.assert_close(found.total, total)
    torch.testing.assert_close(gradients, [offsets.grad, logits.grad])


def test_numbers_that_are_none_are_not_passed_over():
    """A net that has diverged: its loss must say so."""
    labels = torch.tensor([[1, 0, 0, 0, 0, 0, 0, 0]])
    logits = torch.zeros(1, 8, 3)
    logits[0, 5, 1] = float("nan")
    assert multibox_loss(torch.zeros(1, 8, 4), logits, torch.zeros(1, 8, 4), labels).total.isnan()
    loss = torch.tensor([[3.0, float("nan"), 2.0, 1.0]])
    positive = torch.tensor([[True, False, False, False]])
    assert hard_negatives(loss, positive, ratio=2).tolist() == [[False, True, True, False]]
    assert not hard_negatives(loss, positive, ratio=1)[positive].any()


@pytest.mark.parametrize("shape", [(0, 5), (2, 0)])
def test_nothing_to_choose_from(shape):
    assert hard_negatives(torch.zeros(shape), torch.zeros(shape, dtype=torch.bool)).shape == shape


def test_a_part_of_a_batch_is_divided_by_the_positives_of_all():
    offsets, targets = torch.randn(2, 3, 9, 4, generator=torch.Generator().manual_seed(0))
    logits = torch.randn(3, 9, 5, generator=torch.Generator().manual_seed(1))
    labels = torch.zeros(3, 9, dtype=torch.int64)
    labels[0, :4], labels[2, 3] = 1, 4
    whole = multibox_loss(offsets, logits, targets, labels)
    parts = [
        multibox_loss(offsets[i], logits[i], targets[i], labels[i], num_positives=whole.num_positives)
        for i in (slice(0, 1), slice(1, 3))
    ]
    for name in ("total", "localization", "confidence"):
        torch.testing.assert_close(getattr(whole, name), sum(getattr(p, name) for p in parts))
    assert [int(p.num_positives) for p in parts] == [5, 5]


@pytest.mark.parametrize("shape", [(2, 5000, 3), (3, 7, 15), (3, 7, 16), (1, 1, 2), (2, 0, 9), (0, 4, 9)])
def test_the_loss_as_background_is_the_same_however_many_classes(shape):
    logits = 30 * torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    expected = logits.double().logsumexp(-1) - logits.double()[..., 0]
    assert torch.allclose(_background_loss(logits).double(), expected, atol=1e-4)
