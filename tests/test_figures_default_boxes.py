"""The strip of matched default boxes: what it draws is what matching says."""

import torch
from cases import noise, sample_of, texts

from ssdedu import matching, priors
from ssdedu.course.figures import default_boxes as figures
from ssdedu.course.figures.common import COLORS

TWO = [[0.1, 0.1, 0.4, 0.5], [0.45, 0.4, 0.95, 0.95]]


def test_the_strip_draws_every_positive_in_the_colour_of_its_map():
    scene, config = sample_of(noise(), TWO), priors.SHAPES128
    coarse = priors.SHAPES128_COARSE_MAP
    fig, facts = figures.matched_strip(scene, {"four maps": config, "one map": coarse}, ["cat", "dog"])
    for ax, description, title in zip(fig.axes, (config, coarse), ("four maps", "one map"), strict=True):
        found = matching.match(torch.tensor(TWO), torch.tensor([1, 2]), priors.default_boxes(description))
        counts = [int((found.object_index == g).sum()) for g in (0, 1)]
        assert facts[f"{title}: positives"] == f"cat {counts[0]}, dog {counts[1]}"
        _, *drawn = ax.patches
        coloured = [p for p in drawn if p.get_edgecolor()[:3] != (0.0, 0.0, 0.0)]
        assert len(coloured) == sum(counts)
        assert len(drawn) == sum(counts) + 2
        assert len([p for p in coloured if p.get_linewidth() > 3]) == len(ax.lines) == 2
        assert texts(ax) == ["cat", "dog"]
    used = {p.get_edgecolor() for p in fig.axes[0].patches}
    assert len(used) > 2
    assert len(COLORS) >= len(config.maps)
