"""The tables of `gpu.py`, made of the rows in its JSON files, and its exit statuses.

Needs nothing but Python, as `gpu_all.py` does.
"""

from __future__ import annotations

#: Exit statuses of a part. (1: Python's own, of an exception.)
NO_GPU, CUT_OFF, BROKEN, FAILED = 2, 3, 4, 5


def of(part: str, rows: list[dict]) -> list[str]:
    """Return the lines of the table of a part."""
    return checks(rows) if part == "check" else times(rows)


def times(rows: list[dict]) -> list[str]:
    """Return all times, a line for each row."""
    head = "units, dtype, case, mode; milliseconds: median (half the distance of the quartiles); x: Keras / auto"
    return [head, *map(line, rows)]


def line(row: dict) -> str:
    """Return one row of the table of times."""
    head = f"{row['units']:>4} {row['dtype'].removeprefix('mixed_'):8} {row['case']:17} {row['mode']:8}"
    failed = [f"{n} FAILED: {why[:80]}" for n, why in row.get("failed", {}).items()]
    if "ms" not in row:
        return f"{head} {', '.join(['FAILED ' + row.get('error', '')[:150], *failed])}"
    ms, spread = row["ms"], {n: (q[2] - q[0]) / 2 for n, q in row["quartiles"].items()}
    others = [n for n in ms if n not in ("keras", "auto")]
    parts = [f"keras {ms['keras']:.2f}({spread['keras']:.2f})" if "keras" in ms else "keras -"]
    if "auto" in ms:
        parts.append(f"auto={row['engine']['auto']} {ms['auto']:.2f}({spread['auto']:.2f})")
        parts.append(f"x{ms['keras'] / ms['auto']:.1f}" if "keras" in ms else "")
    parts += [f"{n} {ms[n]:.2f}({spread[n]:.2f})" for n in others]
    memory = [f"{n} {m:.0f}" for n, m in row["MiB"].items() if m is not None]
    return f"{head} {', '.join(p for p in [*parts, *failed] if p)}; MiB {' '.join(memory)}"


def checks(rows: list[dict]) -> list[str]:
    """Return how many checks passed, the worst of each kind, and all that failed."""
    lines, failed = [], [row for row in rows if not row["ok"]]
    kinds: dict[tuple, list] = {}
    for row in rows:
        kinds.setdefault((row["check"], row["engine"]), []).append(row)
    for (check, engine), of_kind in sorted(kinds.items()):
        good = [r for r in of_kind if r["ok"]]
        shares = [r["error"] / r["bound"] for r in good if r["bound"] and r["error"] is not None]
        worst = f", at most {max(shares):.2f} of what is allowed" if shares else ""
        lines.append(f"{check:28} {engine:11} {len(good)}/{len(of_kind)}{worst}")
        if check.startswith(("tf32", "torch.nn")):
            lines += [f"   {r['error'] or 0:.1e} ({r['worst']}) {r['case']}" for r in of_kind]
    for row in failed:
        what = row["worst"] if row["error"] is None else f"{row['worst']}: {row['error']:.2e}, allowed {row['bound']}"
        lines.append(f"FAILED {row['check']} {row['engine']} [{row['case']}] {what}"[:400])
    return [*lines, f"{len(rows) - len(failed)} passed, {len(failed)} failed"]
