"""The stack's dashboard as a picture: its body, as the template has it, drawn over metrics that functions printed (SVG).

What the body does not use raises, so that a widget of a new kind is not passed over.
"""

import json
import re
from html import escape

from alarms import Series, evaluate

CELL, ROW, GAP = 50, 34, 8
COLORS = ["#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf"]
LEGEND = 15


def short(number):
    for limit, unit in ((1e6, "M"), (1e3, "k")):
        if number >= limit:
            return f"{number / limit:.3g}{unit}"
    return f"{number:.3g}"


class Dashboard:
    """`metrics` as alarms.Metrics has them; `lines` are reconcile's log: (minute, line); `end` is the minute that it is."""

    def __init__(self, widgets, metrics, lines, firing, end, hours=6, quota=100):
        self.widgets, self.metrics, self.lines, self.firing = widgets, metrics, lines, firing
        self.end, self.hours, self.quota = end, hours, quota

    def svg(self):
        width = 24 * CELL + GAP
        height = max(it["y"] + it["height"] for it in self.widgets) * ROW + GAP
        parts = [part for widget in self.widgets for part in self.widget(widget)]
        return "\n".join([
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
            'font-family="system-ui, -apple-system, \'Segoe UI\', Helvetica, Arial, sans-serif" font-size="11">',
            "<title>The stack's dashboard</title>", f'<rect width="{width}" height="{height}" fill="#f2f3f3"/>', *parts, "</svg>"]) + "\n"

    def widget(self, widget):
        x, y = widget["x"] * CELL + GAP, widget["y"] * ROW + GAP
        width, height = widget["width"] * CELL - GAP, widget["height"] * ROW - GAP
        properties = widget["properties"]
        draw = {"alarm": self.alarms, "metric": self.single if properties.get("view") == "singleValue" else self.graph,
                "log": self.table}[widget["type"]]
        yield f'<g transform="translate({x} {y})"><rect width="{width}" height="{height}" fill="#fff" stroke="#d5dbdb" rx="3"/>'
        yield f'<text x="10" y="19" font-size="13" font-weight="600" fill="#16191f">{escape(properties["title"])}</text>'
        yield from draw(properties, width, height)
        yield "</g>"

    def alarms(self, properties, width, height):
        names = [arn.rsplit(":", 1)[1].removesuffix("Alarm") for arn in properties["alarms"]]
        columns = 6
        across, down = (width - 20) / columns, (height - 32) / -(-len(names) // columns)
        for place, name in enumerate(names):
            color = "#d13212" if name in self.firing else "#1d8102"
            x, y = 10 + place % columns * across, 28 + place // columns * down
            yield f'<rect x="{x:.0f}" y="{y:.0f}" width="{across - 6:.0f}" height="{down - 4:.0f}" fill="{color}" rx="2"/>'
            yield f'<text x="{x + 8:.0f}" y="{y + down / 2 + 2:.0f}" fill="#fff">{escape(name)}</text>'

    def series(self, properties):
        """(label, values) of each metric of a graph, period by period."""
        period, count = properties["period"], self.hours * 3600 // properties["period"]
        known, expressions = {}, []
        for entry in properties["metrics"]:
            options = entry[-1] if isinstance(entry[-1], dict) else {}
            if "expression" in options:
                expressions.append(options)
                continue
            namespace, name, *dimensions = [part for part in entry if isinstance(part, str)]
            metric = {"Namespace": namespace, "MetricName": name, "Dimensions": [
                {"Name": key, "Value": value} for key, value in zip(dimensions[::2], dimensions[1::2])]}
            series = self.metrics.series(metric, options.get("stat", properties.get("stat")), period, self.end, count)
            known[options.get("id", name)] = series
            if options.get("visible", True):
                yield options.get("label", name), series.values
        for options in expressions:
            value = evaluate(options["expression"], known, self.quota)
            yield options["label"], value.values if isinstance(value, Series) else [value] * count

    def graph(self, properties, width, height):
        lines = list(self.series(properties))
        per_row = max(1, int((width - 20) // 185))
        legend = -(-len(lines) // per_row) * LEGEND
        left, top, right, bottom = 44, 38, width - 16, height - legend - 22
        stacked = properties.get("stacked", False)
        if stacked:
            sums = [0] * len(lines[0][1])
            shown = []
            for label, values in lines:
                sums = [total + (value or 0) for total, value in zip(sums, values)]
                shown.append((label, sums))
        else:
            shown = lines
        limits = properties.get("annotations", {}).get("horizontal", [])
        most = max([value for _, values in shown for value in values if value is not None] + [it["value"] for it in limits] + [1])

        def at(place, value, count):
            return left + (right - left) * (place + 0.5) / count, bottom - (bottom - top) * value / (most * 1.05)

        for part in (0, 0.5, 1):
            _, y = at(0, most * part, 1)
            yield f'<path d="M{left} {y:.1f}H{right:.0f}" stroke="#eaeded"/><text x="{left - 5}" y="{y + 4:.1f}" text-anchor="end" fill="#687078">{short(most * part)}</text>'
        if unit := properties.get("yAxis", {}).get("left", {}).get("label"):
            yield f'<text x="{left - 5}" y="{top - 7}" text-anchor="end" fill="#687078">{escape(unit)}</text>'
        for hour in range(self.hours + 1):
            x = left + (right - left) * hour / self.hours
            yield f'<text x="{x:.0f}" y="{bottom + 13}" text-anchor="middle" fill="#687078">{f"−{self.hours - hour} h" if hour < self.hours else "now"}</text>'
        for limit in limits:
            _, y = at(0, limit["value"], 1)
            yield f'<path d="M{left} {y:.1f}H{right:.0f}" stroke="#d13212" stroke-dasharray="4 3"/><text x="{right:.0f}" y="{y - 3:.1f}" text-anchor="end" fill="#d13212">{escape(limit["label"])}</text>'
        for number, (label, values) in reversed(list(enumerate(shown))):
            yield from self.line(values, COLORS[number % len(COLORS)], stacked, at, bottom)
        for number, (label, _) in enumerate(lines):
            x, y = 10 + number % per_row * (width - 20) / per_row, height - legend + number // per_row * LEGEND + 6
            yield f'<rect x="{x:.0f}" y="{y - 8:.0f}" width="9" height="9" fill="{COLORS[number % len(COLORS)]}"/><text x="{x + 13:.0f}" y="{y:.0f}" fill="#16191f">{escape(label)}</text>'

    @staticmethod
    def line(values, color, stacked, at, bottom):
        points = [(*at(place, value, len(values)), place) for place, value in enumerate(values) if value is not None]
        if not points:
            return
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y, _ in points)
        if stacked:
            yield f'<path d="{path}L{points[-1][0]:.1f} {bottom}L{points[0][0]:.1f} {bottom}Z" fill="{color}"/>'
            return
        yield f'<path d="{path}" fill="none" stroke="{color}" stroke-width="1.5"/>'
        places = {place for *_, place in points}
        for x, y, place in points:
            if not {place - 1, place + 1} & places:
                yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{color}"/>'

    def single(self, properties, width, height):
        (label, values), = self.series(properties)
        told = [value for value in values if value is not None]
        yield f'<text x="{width / 2:.0f}" y="{height / 2 + 12:.0f}" font-size="30" text-anchor="middle" fill="#16191f">{short(told[-1]) if told else "–"}</text>'
        yield f'<text x="{width / 2:.0f}" y="{height / 2 + 34:.0f}" text-anchor="middle" fill="#687078">{escape(label)}</text>'

    def table(self, properties, width, height):
        """The answer to a query, of the kind that the dashboard has."""
        _, *steps = properties["query"].split(" | ")
        columns, rows = rows_of([{**line, "@timestamp": self.clock(minute)} for minute, line in self.lines], steps)
        widest = {"message": 0.5, "repository": 0.3}
        weights = [widest.get(name, 0.14) for name in columns]
        bold = ' font-weight="600"'
        for row, cells in enumerate([columns, *rows[:int((height - 34) // LEGEND) - 1]]):
            x, y = 10.0, 40 + row * LEGEND
            for cell, weight in zip(cells, weights):
                room = (width - 20) * weight / sum(weights)
                text = str(cell)[:int(room // 5.6)]
                yield f'<text x="{x:.0f}" y="{y}" fill="#16191f"{bold if row == 0 else ""}>{escape(text)}</text>'
                x += room

    def clock(self, minute):
        return f"{minute // 60 % 24:02}:{minute % 60:02}"


def rows_of(lines, steps):
    """What a query's steps make of lines: the names of the columns, and the rows."""
    columns = []
    for step in steps:
        kind, rest = step.split(" ", 1)
        if kind == "filter":
            holds = condition(rest)
            lines = [line for line in lines if holds(line)]
        elif kind == "stats":
            columns, lines = summed(lines, rest)
        elif kind == "display":
            columns = rest.split(", ")
        elif kind == "sort":
            field, = re.fullmatch(r"(@?\w+) desc", rest).groups()
            lines = sorted(lines, key=lambda line: line[field], reverse=True)
        elif kind == "limit":
            lines = lines[:int(rest)]
        else:
            raise NotImplementedError(step)
    return columns, [[line.get(column, "") for column in columns] for line in lines]


def condition(text):
    if present := re.fullmatch(r"ispresent\((\w+)\)", text):
        return lambda line: line.get(present[1]) is not None
    field, reasons = re.fullmatch(r"(\w+) in \[(.*)\]", text).groups()
    return lambda line: line.get(field) in re.findall(r"'(\w+)'", reasons)


def summed(lines, text):
    """`stats`: the names of its columns, and a line for each group."""
    sums, by = text.split(" by ")
    keys, groups = by.split(", "), {}
    for line in lines:
        groups.setdefault(tuple(line.get(key, "") for key in keys), []).append(line)
    asked = [re.fullmatch(r"(max|sum|count)\((\*|\w+)\)(?: / (\d+))? as (\w+)", part).groups() for part in sums.split(", ")]
    rows = []
    for group, of in groups.items():
        row = dict(zip(keys, group))
        for how, field, divisor, name in asked:
            values = [1] * len(of) if how == "count" else [line[field] for line in of if field in line]
            value = (max if how == "max" else sum)(values) / int(divisor or 1)
            row[name] = round(value, 2) if divisor else value if how == "max" else int(value)
        rows.append(row)
    return [*keys, *(name for *_, name in asked)], rows


def parsed(line):
    """The fields of a function's line, as queries know them."""
    return json.loads(line) if line.startswith("{") else None
