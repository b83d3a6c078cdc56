"""./dev bench page FILE.json: docs/performance.md, its two pictures and the README's rows, from what ./dev bench peers wrote.
Standard library only; the same file gives the same bytes.

    report.py FILE.json [ROOT]

Text between "<!-- notes ... -->" and "<!-- notes end -->" of the page is by hand and stays.
"""

import json
import re
import sys
from pathlib import Path

import plots
import rows as table

NEEDED = {
    "operation": str,
    "shape": str,
    "dtype": str,
    "threads": int,
    "ours_us": float,
    "peer_us": float,
    "best_peer_us": float,
    "ratio": float,
    "ratio_q25": float,
    "limit_fraction": float,
    "clean_samples": int,
}
NOTES = ("<!-- notes: by hand, ./dev bench page keeps them -->", "<!-- notes end -->")
HEADLINES = (  # operation, dtype, what the shape must have, how the README calls it
    ("lora", "fp32", {"T": 8, "r": 16}, "LoRA, 8 tokens"),
    ("lora", "bf16", {"T": 64, "r": 16}, "LoRA in bfloat16, 64 tokens"),
    ("lora_backward", "fp32", {"T": 512}, "LoRA backward, 512 tokens"),
    ("dora_forward", "fp32", {"T": 8}, "DoRA forward with its norms, 8 tokens"),
    ("gate", "fp32", {"T": 4096, "E": 64, "k": 2}, "top-2 gate of 64 experts, 4096 tokens"),
)


def validate(data):
    """Raises ValueError unless `data` is what ./dev bench peers writes."""
    for part in ("machine", "limits", "rows"):
        if part not in data:
            raise ValueError(f"no {part!r} in the file")
    if not data["rows"]:
        raise ValueError("no rows in the file")
    for index, row in enumerate(data["rows"]):
        for name, kind in NEEDED.items():
            if name not in row:
                raise ValueError(f"row {index} has no {name!r}")
            value = row[name]
            if value is None and kind is float:  # contended
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float) if kind is float else kind):
                raise ValueError(f"row {index}: {name!r} is {value!r}")
    return data


# --- pieces


def number(value):
    if value is None:
        return "contended"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:,.0f}".replace(",", " ")


def times(value):
    return "-" if value is None else f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def percent(value):
    return "-" if value is None else f"{100 * value:.0f} %"


def short(row):
    """The shape without what is the same everywhere."""
    return re.sub(r" (n=4096|m=4096|H=1024)\b", "", row["shape"])


def title(row):
    return f"{row['operation']} {short(row)} {row['dtype']}"


def goals(row):
    """[(what, goal, measured, reached)]"""
    wanted = (
        ("best peer", "goal_ratio", "ratio"),
        ("as written", "goal_peer_ratio", "peer_ratio"),
        ("limit", "goal_fraction", "limit_fraction"),
    )
    return [
        (what, row.get(goal), row.get(measured), table.reached(row.get(measured), row.get(goal)))
        for what, goal, measured in wanted
        if row.get(goal) is not None
    ]


def goal_text(row):
    """How the goals stand, in one cell."""
    parts = []
    for what, goal, _, reached in goals(row):
        shown = percent(goal) if what == "limit" else f"{goal:g}x {what}"
        parts.append(f"{shown}: " + {True: "reached", False: "**missed**", None: "contended"}[reached])
    return "; ".join(parts) or "-"


def missed_text(goal):
    what, wanted, measured, _ = goal
    return (
        f"{percent(measured)} of the limit, {percent(wanted)} wanted"
        if what == "limit"
        else f"{times(measured)} x {what}, {wanted:g} wanted"
    )


def count(threads):
    return f"{threads} thread{'s' if threads > 1 else ''}"


def markdown_table(head, lines):
    return "\n".join(["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *("| " + " | ".join(line) + " |" for line in lines)])


def of_threads(data, threads, cold=False):
    return [r for r in data["rows"] if r["threads"] == threads and bool(r.get("cold")) == cold]


def median(values):
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


# --- the page


def main_table(found):
    return markdown_table(
        [
            "operation",
            "shape",
            "type",
            "graft",
            "as written",
            "best peer",
            "ratio (lower quartile)",
            "as written / graft",
            "limit",
            "of the limit",
            "goals",
        ],
        [
            [
                r["operation"],
                short(r),
                r["dtype"],
                number(r["ours_us"]),
                number(r["peer_us"]),
                number(r["best_peer_us"]),
                f"{times(r['ratio'])} ({times(r['ratio_q25'])})",
                times(r.get("peer_ratio")),
                f"{number(r.get('limit_us'))} {r.get('limit_by', '')}",
                percent(r["limit_fraction"]),
                goal_text(r),
            ]
            for r in found
        ],
    )


def candidate_text(row):
    parts = []
    for name, entry in sorted(
        row.get("candidates", {}).items(), key=lambda item: (item[1]["median_us"] is None, item[1]["median_us"] or 0, item[0])
    ):
        mark = {"ours": "**", "extra": "*"}.get(entry["column"], "")
        code = "" if mark else "`"
        parts.append(f"{mark or code}{name.replace('|', '/')}{mark or code} {number(entry['q10_us'])}")
    return ", ".join(parts)


def losses(found):
    """Rows that are slower than the best peer, or whose lower quartile is."""
    return [r for r in found if r["ratio"] is not None and not r.get("cold") and r["ratio_q25"] < 0.95]


def page(data, notes):
    machine, found = data["machine"], data["rows"]
    counted = [r for r in found if not r.get("cold")]
    measured = [r for r in counted if r["ratio"] is not None]
    all_threads = sorted({r["threads"] for r in found})
    marks = [reached for r in counted for *_, reached in goals(r) if reached is not None]
    missed = [(r, of_row) for r in counted if (of_row := [g for g in goals(r) if g[3] is False])]
    text = [
        "# Performance: the same operations in PyTorch and PEFT",
        "<!-- ./dev bench page makes this page; by hand: what stands between the marks of notes -->",
        "graft through its C interface, PyTorch and Hugging Face PEFT in one process and one run, on a processor. Every figure of this page is from one run of "
        f"`./dev bench peers` on {machine.get('date', 'a day that was not noted')}: {machine.get('processor', 'unknown')}, {machine.get('processors', '?')} processors; "
        f"graft {machine.get('graft', '?')}, a *baseline* build at {machine.get('instruction_set', '?')}; PyTorch {machine.get('torch', '?')} "
        f"({machine.get('torch_capability', '?')}), PEFT {machine.get('peft', '?')}.",
    ]
    if measured:
        text.append(
            f"{len(counted)} rows, {len(counted) - len(measured)} of them contended. Against the **best** that PyTorch does graft is {times(median([r['ratio'] for r in measured]))} times as "
            f"fast in the median row; {len(losses(found))} rows have a lower quartile below 0.95. {sum(marks)} of {len(marks)} goals are reached."
        )
    text += [
        "![How many times as fast as PyTorch, by row](performance_ratios.svg)",
        "![Flops a second over flops a byte, below the roof of the machine](performance_roofline.svg)",
    ]
    for threads in all_threads:
        if of_threads(data, threads):
            text.append(f"## {count(threads)}")
            text.append(main_table(of_threads(data, threads)))
    text.append(
        "Times in microseconds, the 10th percentile of clean samples. *As written*: as the papers' code, Hugging Face's or a user's two lines have it. *Best peer*: the fastest form "
        "in PyTorch that we found. *Ratio*: best peer / graft, median of the ratios of all rounds, and their lower quartile. *Limit*: what this machine needs at least, and by what. n = m = 4096 "
        "(H = 1024 for experts' rows) where not said. The B of LoRA and of VeRA is packed once at load; unpacked it stands [below](#every-candidate). Goals as ratios are meant for Intel processors with AVX-512, "
        "fractions of the limit for any machine."
    )
    text.append("## Missed goals, and why")
    if missed:
        text.append(
            "\n".join(
                f"- {title(r)}, {count(r['threads'])}: "
                + ", ".join(missed_text(g) for g in of_row)
                + f" (bound by {r.get('limit_by', '?')})."
                for r, of_row in missed
            )
        )
    else:
        text.append("None.")
    slower = losses(found)
    if slower:
        text.append("Slower than the best peer in a quarter of the rounds or more:")
        text.append(
            "\n".join(
                f"- {title(r)}, {count(r['threads'])}: {times(r['ratio'])} (lower quartile {times(r['ratio_q25'])}) against "
                f"`{r.get('best_peer')}`, at {percent(r['limit_fraction'])} of the limit by {r.get('limit_by', '?')}."
                for r in slower
            )
        )
    text.append(notes)
    cold = [r for r in found if r.get("cold")]
    if cold:
        text.append("## With cold caches")
        text.append("192 MiB are read and written before each call, by as many threads. Each call is a sample.")
        text.append(main_table(cold))
    others = [
        (r, n, e)
        for r in counted
        for n, e in r.get("candidates", {}).items()
        if e["column"] == "other" and n in ("Eigen", "OpenBLAS", "oneDNN")
    ]
    if others:
        names = sorted({n for _, n, _ in others})
        text.append("## Other libraries")
        text.append(
            "LoRA as two products of Eigen, OpenBLAS or oneDNN (Debian's packages), called in C++; microseconds, and how many times graft's time in brackets."
        )
        lines = []
        for r in counted:
            of_row = {n: e for row, n, e in others if row is r}
            if of_row:
                lines.append(
                    [
                        title(r),
                        str(r["threads"]),
                        number(r["ours_us"]),
                        *(f"{number(of_row[n]['q10_us'])} ({times(of_row[n]['ratio'])})" if n in of_row else "-" for n in names),
                    ]
                )
        text.append(markdown_table(["row", "threads", "graft", *names], lines))
    text.append("## Every candidate")
    text.append("Microseconds, the fastest first; **graft** in the form that the tables above have, *in another form*.")
    text.append(
        markdown_table(
            ["row", "threads", "candidates"], [[title(r), str(r["threads"]), candidate_text(r)] for r in counted if r.get("candidates")]
        )
    )
    text.append("## The machine's limits")
    text.append(limits_table(data))
    text.append(method(machine))
    return "\n\n".join(text) + "\n"


def limits_table(data):
    lines = []
    for threads, found in sorted(data["limits"].items(), key=lambda item: int(item[0])):
        for when in ("start", "end"):
            f = found[when]
            lines.append(
                [
                    threads,
                    when,
                    f"{f['fma_flops'] / 1e9:.0f}",
                    f"{f['bf16_dot_flops'] / 1e9:.0f}" if f.get("bf16_dot_flops") else "-",
                    *(
                        "/".join(f"{f['bytes_per_second'][level][kind] / 1e9:.0f}" for kind in ("read", "update", "copy"))
                        for level in table.LEVELS
                    ),
                    f"{f['fork_join_us']:.2f}",
                ]
            )
    return (
        "Measured by the run itself, at its start and its end; rows are held against the faster of both. *bf16 dots*: vdpbf16ps, which graft does not use.\n\n"
        + markdown_table(
            ["threads", "", "Gflop/s", "bf16 dots", "L1 GB/s: read/update/copy", "L2", "L3", "DRAM", "a parallel region, us"], lines
        )
    )


def method(machine):
    environment = " ".join(f"{k}={v}" for k, v in machine.get("environment", {}).items())
    return f"""## Method

- One process. PyTorch is imported first, and graft's library is given PyTorch's own OpenMP runtime; the run fails unless exactly one is mapped ({', '.join(machine.get('openmp', [])) or 'not noted'}).
  Both use the same number of threads, and every tensor is PyTorch's memory. graft is called through `include/graft/c/graft.h`, as anybody may.
- Before anything is timed, each candidate's results are compared with float64: 1e-5 of the largest value for fp32 (2e-5 where sums are longer), 1e-2 for bf16, where PyTorch rounds between products.
- Calls are repeated inside C for graft, and inside C++ for PyTorch's short calls too (libtorch of the same wheel); PyTorch's other candidates are called from Python, whose cost per call is theirs.
- Each round takes one sample of every candidate, in shuffled order. A sample lasts 300 us at least and follows a call that is not timed: caches are hot. A sample during which a thread was
  preempted is dropped (samples of whole seconds may be interrupted five times a second); with fewer than four clean ones a candidate is *contended*. Ratios are taken inside a round.
- Forwards run in `torch.inference_mode()`. The best PyTorch writes into given tensors (`out=`, `addmm_`, in place), with a malloc that keeps its pages; it may use oneDNN's linear as torch.compile
  has it called, with weights reordered at load, keep bf16 weights in fp32 as well, and take maxima in turn instead of a top-k. Candidates as users write them run with malloc as it is by default.
- PEFT is called as it is: its layers around a base layer that costs nothing (its output is given), so that what they add is timed alone; its merge; its rotation of OFT, which it makes anew on each call
  where graft and the best PyTorch keep it. BOFT with two factors needs PEFT's CUDA extension; what that does is written in PyTorch for this. DoRA's norms are made on each call by all, as in training;
  prepared once they cost nothing ([every candidate](#every-candidate)).
- The limit is a roofline of the run's own measurements: flops over the peak of fused multiply-adds, or bytes that must move over the speed of the level of memory that holds the working set, whichever is longer.
  What is read takes as long as reading does, and all that moves as long as the fastest of reading, updating in place and streaming copies does. Comparisons and exponentials are no flops. Dispatch counts as a copy of as many rows; its input is
  read from a nearer cache in part, so it may pass 100 %. No parallel region is counted.
- What other processors do differs: PyTorch's bf16 takes AMX where there is one, and its MKL is slower on AMD's processors than on Intel's.

PyTorch has {'; '.join(machine.get('torch_libraries', [])) or 'libraries that were not noted'}; its oneDNN: {machine.get('onednn', 'not noted')}. Flags of the processor: {' '.join(machine.get('flags', []))}. Environment: {environment or 'not noted'}. {machine.get('rounds', '?')} rounds, seed {machine.get('seed', '?')}.{' The run was contended: its peak changed between start and end.' if machine.get('contended') else ''}

## Repeat it

    ./dev bench peers --json peers.json   # installs PyTorch and PEFT outside the repository on its first run: about 6 GB
    ./dev bench peers --quick             # every operation, within 4 minutes
    chrt --fifo 1 ./dev bench peers       # as root, on a machine that does other things too: they wait
    ./dev bench page peers.json           # this page"""


def notes_of(old):
    """The part by hand of an earlier page, with its marks."""
    match = re.search(r"^<!-- notes[^\n]*-->$.*?^<!-- notes end -->$", old, re.S | re.M)
    return match[0] if match else "\n\n".join(NOTES)


def headline_table(data):
    lines = []
    for operation, dtype, sizes, name in HEADLINES:
        for r in of_threads(data, 1):
            if r["operation"] == operation and r["dtype"] == dtype and all(r["sizes"].get(k) == v for k, v in sizes.items()):
                lines.append(
                    [
                        name,
                        number(r["ours_us"]),
                        number(r["peer_us"]),
                        number(r["best_peer_us"]),
                        f"{times(r.get('peer_ratio'))} / {times(r['ratio'])}",
                    ]
                )
    machine = data["machine"]
    return (
        f"One thread of {machine.get('processor', 'a processor').split(' (')[0]}, microseconds, against PyTorch {machine.get('torch', '').split('+')[0]} in the same process "
        f"({len(lines)} of {len(data['rows'])} rows; [docs/performance.md](docs/performance.md) has all, and where graft loses).\n\n"
        + markdown_table(["n = m = 4096", "graft", "PyTorch, PEFT as written", "the best PyTorch can do", "times as fast"], lines)
    )


def between(text, begin, end, inside):
    """`text` with what stands between the marks replaced."""
    pattern = re.compile(rf"^({re.escape(begin)}[^\n]*-->)$.*?^({re.escape(end)})$", re.S | re.M)
    if not pattern.search(text):
        raise ValueError(f"no {begin} ... {end}")
    return pattern.sub(lambda match: f"{match[1]}\n{inside}\n{match[2]}", text)


def generate(data, root):
    """Writes the page, its pictures and the README's rows; the paths written."""
    root = Path(root)
    target = root / "docs/performance.md"
    old = target.read_text() if target.exists() else ""
    written = {
        target: page(data, notes_of(old)),
        root / "docs/performance_ratios.svg": plots.ratios(data),
        root / "docs/performance_roofline.svg": plots.roofline(data),
    }
    readme = root / "README.md"
    if readme.exists():
        written[readme] = between(readme.read_text(), "<!-- performance", "<!-- performance end -->", headline_table(data))
    for path, text in written.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return list(written)


def main():
    root = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(__file__).resolve().parents[2]
    with open(sys.argv[1]) as file:
        data = validate(json.load(file))
    for path in generate(data, root):
        print(path.relative_to(root))


if __name__ == "__main__":
    main()
