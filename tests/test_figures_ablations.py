"""The figures of notebook 12 show what they are given."""

from ssdedu.course.figures import ablations


def test_a_dot_for_each_run_and_a_line_at_the_median():
    fig = ablations.dots({"SSD": [0.8, 0.7, 0.75], "other": [0.5, 0.9]}, reference="SSD")
    ax = fig.axes[0]
    dots = [tuple(line.get_xydata()[0]) for line in ax.lines if len(line.get_xydata()) == 1]
    assert dots == [(0.8, 0), (0.7, 0), (0.75, 0), (0.5, 1), (0.9, 1)]
    medians = [line.get_xdata()[0] for line in ax.lines if len(line.get_xydata()) == 2]
    assert medians == [0.75, 0.7]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["SSD", "other"]
    (band,) = ax.patches
    assert (band.get_x(), round(band.get_width(), 9)) == (0.7, 0.1)


def test_a_line_for_each_row():
    fig = ablations.lines_by_bin(["small", "large"], {"a": [0.1, 0.9], "b": [0.2, 0.3]}, "size")
    ax = fig.axes[0]
    assert [line.get_ydata().tolist() for line in ax.lines] == [[0.1, 0.9], [0.2, 0.3]]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["small", "large"]
