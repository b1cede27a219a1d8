"""What was checked, as a table and a count."""

import sys

COLUMNS = ("allowed", "refused", "streaming")


class Row:
    """One client at one door."""

    def __init__(self, report: "Report", client: str, door: str):
        self.report, self.client, self.door = report, client, door
        self.cells: dict[str, list[bool]] = {}

    def check(self, column: str, fact: str, holds: bool, seen: object = "") -> None:
        self.cells.setdefault(column, []).append(holds)
        if holds:
            self.report.passed += 1
            return
        self.report.failed += 1
        print(f"FAILED  {self.client}, {self.door}, {column}: {fact}", file=sys.stderr)
        for line in str(seen).splitlines()[:40]:
            print(f"        {line[:400]}", file=sys.stderr)

    def cell(self, column: str) -> str:
        checks = self.cells.get(column)
        if checks is None:
            return "–"
        return f"ok ({len(checks)})" if all(checks) else "FAILED"


class Report:
    """All rows, in the order in which they were tried."""

    def __init__(self, columns: tuple[str, ...] = COLUMNS):
        self.columns = columns
        self.rows: list[Row] = []
        self.passed = self.failed = 0

    def row(self, client: str, door: str) -> Row:
        self.rows.append(Row(self, client, door))
        return self.rows[-1]

    def print(self) -> None:
        lines = [("client", "door", *self.columns)]
        lines += [(row.client, row.door, *map(row.cell, self.columns)) for row in self.rows]
        widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
        lines.insert(1, tuple("-" * width for width in widths))
        print()
        for line in lines:
            print(" | ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())
        print(f"\n{self.passed} passed, {self.failed} failed")
