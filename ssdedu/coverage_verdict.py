"""Whether default boxes suit a data set, in a line of plain words."""

from __future__ import annotations

import numpy as np

from ssdedu.coverage import Coverage
from ssdedu.priors_fit import Fit

__all__ = ["verdict"]

GOOD, FAIR = 0.95, 0.85  # shares of objects covered from which default boxes suit the data, or most of it
WORTH = 0.01  # a gain in covered objects that is worth other default boxes
LOSS = 0.05  # a share of a class's objects that is too much to lose for it
ENOUGH = 20  # objects of a class before it is spoken of


def verdict(found: Fit) -> str:
    """What the numbers mean for the reader, in a line of plain words."""
    sentences = [
        _judgement(found),
        *_weak_spot(found.before),
        *_weak_class(found),
        _advice(found),
        *_lost_class(found),
        *_larger_input(found),
    ]
    return f"Verdict: {' '.join(sentences)} Coverage is not mAP: before you believe it, train with both."


def _judgement(found: Fit) -> str:
    covered = found.before.share_covered
    share = f"{covered:.1%} of the objects have a default box that fits"
    if covered >= GOOD:
        whole = " as a whole, not every class" if _weak_class(found) else ""
        return f"These default boxes suit your data{whole}: {share}."
    suits = "suit most of your objects, not all" if covered >= FAIR else "do not suit your data"
    return f"These default boxes {suits}: {share}, the others learn from one poor box each."


def _weak_spot(c: Coverage) -> list[str]:
    """What most of the uncovered objects have in common, where that matters."""
    missed = ~c.covered
    if c.share_covered >= GOOD:
        return []
    smallest = c.config.maps[0].min_px
    below = (c.sizes_px[missed] < smallest).mean()
    elsewhere = (c.reachable[missed] >= c.threshold).mean()
    if below >= 0.5:
        return [f"{below:.0%} of those others are smaller than the smallest default box ({smallest:g} px)."]
    if elsewhere >= 0.5:
        return [f"{elsewhere:.0%} of those others only lie too far from the cells' centres."]
    low, high = np.quantile(c.sizes_px[missed], [0.1, 0.9])
    return [f"Most of those others have a size of {low:.0f} to {high:.0f} px in the network's input."]


def _weak_class(found: Fit) -> list[str]:
    """The class that is covered least, where it is poorly covered and worse than the whole."""
    rows = [row for row in found.by_class() if row.objects >= ENOUGH]
    if len(rows) < 2 or rows[0].share >= min(FAIR, found.before.share_covered):
        return []
    least = rows[0]
    return [f"The class with the least is {least.name}: {least.share:.1%} of its {least.objects:,} objects."]


def _lost_class(found: Fit) -> list[str]:
    """The class that other sides would cost most, where that is much: the search counts objects, not classes."""
    rows = [row for row in found.by_class() if row.objects >= ENOUGH]
    worst = max(rows, key=lambda row: row.share - row.other, default=None)
    if worst is None or worst.share - worst.other < LOSS:
        return []
    return [f"But with other sides {worst.name} falls from {worst.share:.1%} to {worst.other:.1%}!"]


def _advice(found: Fit) -> str:
    now, other, wide = found.shares
    steps = [f"to {other:.1%}"] if other - now >= WORTH else []
    steps += [f"to {wide:.1%} with ratio 3 on every map"] if wide - max(now, other) >= WORTH else []
    if steps:
        return f"Other sides bring the share covered {', and '.join(steps)} (priors.py)."
    return "Other sides would change little: keep these."


def _larger_input(found: Fit) -> list[str]:
    """The preset that covers most, where it has a larger input and covers clearly more than the other remedies."""
    here = found.before.config
    best = max(found.presets, key=lambda fitted: fitted.share)
    larger = best.config.width_px * best.config.height_px > here.width_px * here.height_px
    if larger and best.share - max(found.shares) >= WORTH:
        size = f"{best.config.width_px} x {best.config.height_px} px"
        return [f"A larger input covers more: {best.config.name} ({size}) {best.share:.1%}."]
    return []
