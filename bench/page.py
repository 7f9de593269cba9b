"""The published page: one section for each benchmark between markers, so that one can be measured anew by itself.

The ratios of a section also stand in its marker as JSON; the chart beside the page is drawn from those of all sections.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path

from bench import chart
from bench.figures import Report

HEAD = """# Benchmarks

Playhead beside nginx and rclone on one machine, over loopback. Each figure is the median of alternating runs, with the
least and the greatest in brackets. Throughput on loopback swings with scheduling; the processor seconds of the server
are the steadier figure. `python -m bench` measures again, `make bench ONLY=local-get` one section.

![Ratios of Playhead to its peers](benchmarks.svg)
"""
SECTION = re.compile(r"<!-- bench:(?P<name>[\w-]+) (?P<data>\{.*?\}) -->\n.*?<!-- end:(?P=name) -->\n", re.DOTALL)


def publish(path: Path, report: Report, machine: str, order: Sequence[str]) -> None:
    """Put the report's section in the place of its former one; sections stand in the given order, unknown ones last."""
    old = path.read_text() if path.exists() else HEAD
    sections = {found["name"]: found[0] for found in SECTION.finditer(old)}
    sections[report.name] = section(report, machine)
    places = {name: place for place, name in enumerate(order)}
    body = "\n".join(sections[name] for name in sorted(sections, key=lambda name: places.get(name, len(places))))
    head = SECTION.sub("", old).strip()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(head + "\n\n" + body)
    path.with_suffix(".svg").write_text(chart.drawn(bars(body)))


def section(report: Report, machine: str) -> str:
    ratios = [
        {"what": goal.what, "value": round(goal.value, 4), "most": goal.most}
        for goal in report.goals
        if goal.unit == "x" and goal.value is not None
    ]
    data = json.dumps({"title": report.title, "ratios": ratios})
    body = f"{report.markdown()}\n\nMeasured {machine}."
    return f"<!-- bench:{report.name} {data} -->\n{body}\n<!-- end:{report.name} -->\n"


def bars(page: str) -> list[chart.Group]:
    groups = []
    for found in SECTION.finditer(page):
        data = json.loads(found["data"])
        ratios = [chart.Bar(one["what"], one["value"], one["most"]) for one in data["ratios"]]
        if ratios:
            groups.append(chart.Group(data["title"], ratios))
    return groups
