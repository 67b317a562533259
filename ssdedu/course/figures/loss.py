"""Figures of `06_loss`: each function returns a figure for `show`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ssdedu.course.figures.common import COLORS, DASHES, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["answer_bars", "background_curves", "loss_shapes"]

Numbers = Sequence[float]


def answer_bars(losses: Mapping[str, tuple[float, float]], mean_ap: Mapping[str, float]) -> Figure:
    """A bar of (confidence, localization) loss for each named answer, and its mAP beside it."""
    import matplotlib.pyplot as plt

    parts = np.array(list(losses.values()))
    with style():
        fig, ax = plt.subplots(figsize=(9, 3.2), layout="constrained")
        rows = np.arange(len(losses))
        ax.barh(rows, parts[:, 0], color=COLORS[0], label="confidence")
        hatched: dict[str, Any] = {
            "facecolor": COLORS[4],
            "hatch": "//",
            "edgecolor": "white",
            "linewidth": 0,
        }
        ax.barh(rows, parts[:, 1], left=parts[:, 0], label="localization", **hatched)
        for row, name in enumerate(losses):
            ax.text(parts[row].sum() + 0.15, row, f"mAP {mean_ap[name]:.2f}", va="center")
        ax.set(yticks=rows, yticklabels=list(losses), xlabel="loss per matched default box")
        ax.set_xlim(0, parts.sum(axis=1).max() * 1.2)
        ax.invert_yaxis()
        ax.legend(loc="lower right")
    return fig


def loss_shapes(differences: Numbers, panels: Mapping[str, Mapping[str, Numbers]]) -> Figure:
    """Named curves over the difference, one panel for each title (the losses, their gradients)."""
    import matplotlib.pyplot as plt

    with style():
        fig, axes = plt.subplots(1, len(panels), figsize=(9, 3.4), layout="constrained", squeeze=False)
        for ax, (title, lines) in zip(axes[0], panels.items(), strict=True):
            for i, (name, values) in enumerate(lines.items()):
                ax.plot(differences, values, color=COLORS[i], linestyle=DASHES[i], label=name)
            ax.set(title=title, xlabel="difference", xlim=(min(differences), max(differences)))
        axes[0][0].legend(loc="upper center")
    return fig


def background_curves(probability: Numbers, panels: Mapping[str, tuple[Numbers, float]]) -> Figure:
    """Each panel's (losses, loss of a trained net): over the probability of background said everywhere.

    The axis of probabilities is logarithmic in the odds; a dot marks the lowest loss.
    """
    import matplotlib.pyplot as plt

    with style():
        fig, axes = plt.subplots(1, len(panels), figsize=(9, 3.5), layout="constrained", squeeze=False)
        for ax, (title, (losses, trained)) in zip(axes[0], panels.items(), strict=True):
            lowest = int(np.argmin(losses))
            ax.plot(probability, losses, color=COLORS[0], label="says background everywhere")
            ax.plot(probability[lowest], losses[lowest], "o", color=COLORS[0], markersize=10)
            ax.axhline(trained, color=COLORS[1], linestyle=DASHES[1], label="trained detector")
            ax.set_xscale("logit")
            ax.set_xticks([0.1, 0.5, 0.9, 0.99, 0.999], ["0.1", "0.5", "0.9", "0.99", "0.999"])
            ax.set_xticks([], minor=True)
            ax.set(title=title, xlabel="probability of background", ylim=(0, None))
        axes[0][0].set_ylabel("loss")
        axes[0][0].legend(loc="upper right")
    return fig
