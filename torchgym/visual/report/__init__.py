"""One evaluation as one HTML page: what the policies earned, one episode in pictures, and how to do it again.

`write_report(Path("runs/train"), BASELINES["momentum"].make, policy="momentum")` makes the page about one of the policies.
"""

from torchgym.extras import needs

with needs("a report", "torchgym[report]"):
    import jinja2  # noqa: F401
    import plotly  # noqa: F401 (the files of this package import more of both)

from torchgym.visual.report.page import chosen_policy, median_episode, page, read_evaluation, write_report

__all__ = ["chosen_policy", "median_episode", "page", "read_evaluation", "write_report"]
