"""What a run found: figures, verdicts against the targets, a table and JSON."""

import json
import os
import platform
import time
from dataclasses import asdict, dataclass

from .measure import spread

MET, MISSED, NOT_MEASURED, INFORMATIVE = "met", "MISSED", "NOT MEASURED", "-"
# The share of the gateway's core that may go to others before a sample is called disturbed.
DISTURBED = 0.05


@dataclass
class Figure:
    """One measured quantity: median, least and greatest of the rounds."""

    row: str
    who: str
    median: float
    least: float
    greatest: float
    unit: str
    note: str = ""


@dataclass
class Verdict:
    """One target: `value` (with its spread over the rounds) must be at most `target`."""

    row: str
    what: str
    target: float | None
    value: float | None
    least: float | None
    greatest: float | None
    unit: str
    verdict: str
    note: str = ""
    # The share of the samples behind it in which others worked on the gateway's core.
    disturbed: float = 0.0


class Report:
    """Gathers the results of all rows and prints them as they come."""

    def __init__(self):
        self.figures, self.verdicts, self.failures, self.titles = [], [], [], {}
        self.row = ""
        self.started = time.time()

    def begin(self, row, title):
        """The next row."""
        self.row = row
        self.titles[row] = title
        print(f"\n== {row}: {title}", flush=True)

    def figure(self, who, values, unit, note=""):
        """A quantity by its values in the rounds."""
        figure = Figure(self.row, who, *spread(values), unit, note)
        self.figures.append(figure)
        shown = f"{number(figure.median)} {unit}"
        width = f"({number(figure.least)} – {number(figure.greatest)})" if len(values) > 1 else ""
        print(f"   {who:<46} {shown:>20} {width:<22} {note}".rstrip(), flush=True)

    def verdict(self, what, values, target, unit="×", note="", foreign=()):
        """A target by its values in the rounds; without `target` it is only told. `foreign` is of the samples behind it."""
        median, least, greatest = spread(values)
        verdict = INFORMATIVE if target is None else MET if median <= target else MISSED
        self._add(Verdict(self.row, what, target, median, least, greatest, unit, verdict, note,
                          disturbed(foreign)))

    def fact(self, what, holds, note=""):
        """Something that must be so, without a number."""
        self._add(Verdict(self.row, what, None, None, None, None, "", MET if holds else MISSED, note))

    def not_measured(self, what, reason):
        """A comparison that could not be made: the run is not complete."""
        self._add(Verdict(self.row, what, None, None, None, None, "", NOT_MEASURED, reason))

    def failed(self, reason):
        """A row that cannot stand."""
        self.failures.append({"row": self.row, "reason": reason})
        print(f"   FAILED: {reason}", flush=True)

    def _add(self, verdict):
        self.verdicts.append(verdict)
        print(f"   {line(verdict)}", flush=True)

    def complete(self):
        """Whether everything that was asked for has been measured."""
        return not self.failures and all(verdict.verdict != NOT_MEASURED for verdict in self.verdicts)

    def print_table(self, versions):
        """All targets once more, side by side."""
        print(f"\nmeasured: {', '.join(f'{name} {version}' for name, version in versions.items())}")
        print(f"\n{'row':<12} {'comparison':<72} {'target':>10} {'measured':>10}  {'spread':<17} verdict")
        for verdict in self.verdicts:
            print(f"{verdict.row:<12} {line(verdict)}")
        for failure in self.failures:
            print(f"{failure['row']:<12} FAILED: {failure['reason']}")
        counts = {name: sum(verdict.verdict == name for verdict in self.verdicts)
                  for name in (MET, MISSED, NOT_MEASURED)}
        shaky = sum(verdict.disturbed > 0 for verdict in self.verdicts)
        print(f"\n{counts[MET]} met, {counts[MISSED]} missed, {counts[NOT_MEASURED]} not measured, "
              f"{len(self.failures)} rows failed, {shaky} disturbed, in {time.time() - self.started:.0f} s")

    def write(self, path, options, versions):
        """Everything as JSON."""
        document = {
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.started)),
            "seconds": round(time.time() - self.started),
            "machine": {"cpu": _cpu_model(), "cores": os.cpu_count(), "kernel": platform.release()},
            "versions": versions,
            "options": options,
            "rows": self.titles,
            "figures": [asdict(figure) for figure in self.figures],
            "verdicts": [asdict(verdict) for verdict in self.verdicts],
            "failures": self.failures,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document, indent=2) + "\n")
        print(f"written: {os.path.relpath(path)}")


def disturbed(foreign):
    """The share of the samples in which others took more of the gateway's core than they may."""
    return sum(share > DISTURBED for share in foreign) / len(foreign) if foreign else 0.0


def number(value):
    """A number with three digits or so."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 1 else f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def line(verdict):
    """One verdict as it stands in the table."""
    unit = verdict.unit if verdict.unit == "×" else f" {verdict.unit}"
    target = "" if verdict.target is None else f"≤ {verdict.target:g}{unit}"
    value = "" if verdict.value is None else f"{number(verdict.value)}{unit}"
    width = "" if verdict.least == verdict.greatest else f"{number(verdict.least)} – {number(verdict.greatest)}"
    shaky = f"DISTURBED: {verdict.disturbed:.0%} of the samples" if verdict.disturbed else ""
    note = "; ".join(filter(None, (verdict.note, shaky)))
    note = f"  ({note})" if note else ""
    return f"{verdict.what:<72} {target:>10} {value:>10}  {width:<17} {verdict.verdict}{note}"


def _cpu_model():
    try:
        with open("/proc/cpuinfo") as file:
            for text in file:
                if text.startswith("model name"):
                    return text.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.machine()
