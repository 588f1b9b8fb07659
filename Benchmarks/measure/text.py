"""How results look: fixed columns for people, the same every time."""

import statistics


def heading(title: str) -> str:
    return f"\n{title}\n{'-' * len(title)}"


def table(rows: list) -> str:
    """Columns as wide as their widest cell; numbers to the right."""
    rows = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths))
        ).rstrip()
        for row in rows
    )


def percentile(values: list, share: float) -> float:
    """The smallest value that at least `share` of all do not exceed (nearest rank)."""
    ordered = sorted(values)
    rank = -(-len(ordered) * share // 1)
    return ordered[max(0, int(rank) - 1)]


DISTRIBUTION = ["min", "median", "p95", "max"]


def distribution(values: list) -> list:
    return [min(values), statistics.median(values), percentile(values, 0.95), max(values)]


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.1 else f"{seconds * 1000:.1f} ms"
