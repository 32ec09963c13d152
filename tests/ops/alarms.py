"""CloudWatch, as far as the alarms of template.yaml need it: metrics out of the lines that the functions print (Embedded Metric
Format), metric math over periods, and an alarm's state at a time. What the template does not use raises."""

import json
import math
import operator
import re

MINUTE = 60
AGGREGATE = {"Sum": sum, "SampleCount": len, "Maximum": max, "Minimum": min, "p50": lambda values: rank(values, 0.5), "p95": lambda values: rank(values, 0.95)}
COMPARE = {"GreaterThanThreshold": operator.gt, "LessThanThreshold": operator.lt}


def rank(values, part):
    """The smallest value that so large a part of them does not exceed."""
    return sorted(values)[max(0, math.ceil(part * len(values)) - 1)]


class Metrics:
    """Every value with the minute that it is of."""

    def __init__(self):
        self.values = {}

    def add(self, namespace, name, dimensions, minute, *values):
        key = namespace, name, frozenset(dimensions.items())
        self.values.setdefault(key, []).extend((minute, value) for value in values)

    def read(self, line, minute, rename):
        """A line of a function's log, if it is one of metrics. `rename` gives dimensions' values other names."""
        if '"_aws"' not in line:
            return False
        told = json.loads(line)
        for definition in told["_aws"]["CloudWatchMetrics"]:
            names, = definition["Dimensions"]
            dimensions = {name: rename(told[name]) for name in names}
            for metric in definition["Metrics"]:
                value = told[metric["Name"]]
                values = value if isinstance(value, list) else [value]
                self.add(definition["Namespace"], metric["Name"], dimensions, minute, *values)
        return True

    def series(self, metric, stat, period, end, count):
        """The last `count` periods that end at minute `end`, oldest first; None where nothing was told."""
        dimensions = frozenset((it["Name"], it["Value"]) for it in metric["Dimensions"])
        values = self.values.get((metric["Namespace"], metric["MetricName"], dimensions), [])
        minutes = period // MINUTE
        spans = [(end - minutes * back, end - minutes * (back - 1)) for back in range(count, 0, -1)]
        found = [[value for minute, value in values if start <= minute < stop] for start, stop in spans]
        return Series([AGGREGATE[stat](it) if it else None for it in found])


class Series:
    """Values of one period after another; an operator does to each what it does to numbers, and None stays None."""

    def __init__(self, values):
        self.values = values

    def _with(self, other, operate):
        others = other.values if isinstance(other, Series) else [other] * len(self.values)
        return Series([None if None in pair else operate(*pair) for pair in zip(self.values, others)])

    def __add__(self, other):
        return self._with(other, operator.add)

    def __truediv__(self, other):
        return self._with(other, operator.truediv)

    def __rmul__(self, other):
        return self._with(other, operator.mul)

    def __gt__(self, other):
        return self._with(other, operator.gt)


def fill(series, value):
    return Series([value if it is None else it for it in series.values])


def largest(parts):
    length = len(next(part.values for part in parts if isinstance(part, Series)))
    rows = zip(*(part.values if isinstance(part, Series) else [part] * length for part in parts))
    return Series([max((it for it in row if it is not None), default=None) for row in rows])


def difference(series):
    before = [None, *series.values[:-1]]
    return series._with(Series(before), operator.sub)


def either(condition, yes, no):
    def at(part, place):
        return part.values[place] if isinstance(part, Series) else part
    return Series([at(yes if holds else no, place) for place, holds in enumerate(condition.values)])


def evaluate(expression, known, quota):
    words = set(re.findall(r"[A-Za-z_]\w*", expression)) - known.keys()
    functions = {"FILL": fill, "MAX": largest, "DIFF": difference, "IF": either, "SERVICE_QUOTA": lambda _: quota}
    if words - functions.keys():
        raise NotImplementedError(words)
    # Metric math reads as Python does, as far as it is used here.
    return eval(expression, {"__builtins__": {}}, functions | known)


def datapoints(alarm, metrics, end, quota):
    """What the alarm looks at, in its last evaluation periods."""
    count = alarm["EvaluationPeriods"]
    if "MetricName" in alarm:
        return metrics.series(alarm, alarm["Statistic"], alarm["Period"], end, count).values
    known = {}
    for query in alarm["Metrics"]:
        if "MetricStat" in query:
            stat = query["MetricStat"]
            # One more: a difference needs the value before.
            known[query["Id"]] = metrics.series(stat["Metric"], stat["Stat"], stat["Period"], end, count + 1)
    shown, = (query for query in alarm["Metrics"] if query.get("ReturnData", True))
    return evaluate(shown["Expression"], known, quota).values[-count:]


def is_firing(alarm, metrics, end, quota=100):
    """Whether it is in alarm at minute `end`, by the periods that end there."""
    missing = {"notBreaching": False, "breaching": True, "ignore": False}[alarm["TreatMissingData"]]
    breaches = COMPARE[alarm["ComparisonOperator"]]
    found = datapoints(alarm, metrics, end, quota)
    count = sum(missing if value is None else breaches(value, float(alarm["Threshold"])) for value in found)
    return count >= alarm.get("DatapointsToAlarm", alarm["EvaluationPeriods"])
