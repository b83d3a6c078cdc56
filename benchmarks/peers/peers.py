"""./dev bench peers: graft, PyTorch, PEFT and other libraries in one process and one run; see docs/performance.md.

peers.py LIBRARY [--torch-loops FILE] [--quick] [--json FILE] [--rows REGEX] [--threads N[,N...]] [--rounds N] [--seed N]
"""

import argparse
import datetime
import json
import os
import platform
import re
import subprocess
import sys
import time

import limits
import rows as table
import sampling

# Read when a process starts: PyTorch at its best needs a malloc that keeps its pages. The column of users' own way switches
# back to what malloc does by itself (peers_malloc in loops.cpp).
ENVIRONMENT = {
    "MALLOC_MMAP_THRESHOLD_": str(8 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(16 << 30),
    "MALLOC_TOP_PAD_": str(256 << 20),
    "OMP_PROC_BIND": "true",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "CUDA_VISIBLE_DEVICES": "",
}
SHOWN = ("OMP_", "GOMP_", "MKL_", "KMP_", "MALLOC_", "GRAFT_ISA", "OPENBLAS_", "ONEDNN_", "DNNL_", "THP_MEM")
# Debian's names; the ones with OpenMP share the runtime. OpenBLAS 0.3.21 does not know new processors: it is told.
LIBRARIES = {"OpenBLAS": "/usr/lib/x86_64-linux-gnu/openblas-openmp/libopenblas.so.0", "oneDNN": "/usr/lib/x86_64-linux-gnu/libdnnl.so.2"}


def processor():
    """(what lscpu calls it, flags that matter) from /proc/cpuinfo."""
    name, flags, numbers = "unknown", [], {}
    with open("/proc/cpuinfo") as file:
        for line in file:
            key, _, value = line.partition(":")
            key, value = key.strip(), value.strip()
            if key == "model name":
                name = value
            elif key in ("vendor_id", "cpu family", "model", "stepping"):
                numbers.setdefault(key, value)
            elif key == "flags":
                flags = [
                    f for f in value.split() if f in ("avx", "avx2", "fma", "f16c", "hypervisor") or f.startswith(("avx512", "avx_", "amx"))
                ]
    return (
        f"{name} ({numbers.get('vendor_id', '?')} family {numbers.get('cpu family', '?')} model {numbers.get('model', '?')} stepping {numbers.get('stepping', '?')})",
        flags,
    )


def onednn():
    """The instruction set that PyTorch's oneDNN takes, and what its bf16 linear runs, as ONEDNN_VERBOSE says in a process of its own."""
    code = "import torch; x = torch.ones(64, 256).bfloat16(); torch.nn.functional.linear(x, x)"
    said = subprocess.run(
        [sys.executable, "-B", "-c", code], env={**os.environ, "ONEDNN_VERBOSE": "1"}, capture_output=True, text=True, check=False
    ).stdout
    isa = re.search(r"cpu,isa:([^\n]*)", said)
    runs = re.search(r"exec,cpu,(?:matmul|inner_product),([^,]*)", said)
    return f"{isa[1] if isa else 'not said'}; bf16 by {runs[1] if runs else 'something else'}"


def mapped(part):
    """Files mapped into this process whose name has `part`."""
    with open("/proc/self/maps") as file:
        return sorted({line.split()[-1] for line in file if part in os.path.basename(line.split()[-1]) and "/" in line})


def openmp_runtimes():
    return mapped("libgomp") + mapped("libiomp") + mapped("libomp")


def us(value):
    if value is None:
        return "contended"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def run_row(row, problem, bench, rounds, seed, of_limits, caches):
    """The row of the JSON."""
    samples = sampling.measure(problem.candidates, rounds, seed, problem.reset, bench.evict if row.cold else None)
    found = {c.name: {"column": c.column, **sampling.summary(samples[c.name])} for c in problem.candidates}
    of = {column: [c.name for c in problem.candidates if c.column == column] for column in ("ours", "peer", "best")}
    ours, peer = of["ours"][0], of["peer"][0]

    def fastest(names):
        measured = [name for name in names if found[name]["median_us"] is not None]
        return min(measured, key=lambda name: found[name]["median_us"], default=None)

    best = fastest(of["best"] + of["peer"])  # whoever writes it so has it so
    limit_us, limit_by = table.limit(row, of_limits, caches)
    for name, entry in found.items():
        entry.update(sampling.ratio_of(samples[ours], samples[name]))
    took = found[ours]["q10_us"]
    best_found = found.get(best, {"q10_us": None, "ratio": None, "ratio_q25": None})
    fraction = limit_us / took if took else None
    return {
        "operation": row.operation,
        "shape": row.shape,
        "sizes": row.sizes,
        "dtype": row.dtype,
        "threads": row.threads,
        "cold": row.cold,
        "ours_us": took,
        "peer_us": found[peer]["q10_us"],
        "best_peer_us": best_found["q10_us"],
        "ratio": best_found["ratio"],
        "ratio_q25": best_found["ratio_q25"],
        "peer_ratio": found[peer]["ratio"],
        "limit_us": limit_us,
        "limit_by": limit_by,
        "limit_fraction": fraction,
        "clean_samples": found[ours]["clean"],
        "contended": took is None or best_found["ratio"] is None,
        "ours": ours,
        "peer": peer,
        "best_peer": best,
        "candidates": found,
        "flops": row.flops,
        "bytes_read": row.read,
        "bytes_written": row.written,
        "goal_ratio": row.goal.ratio,
        "goal_peer_ratio": row.goal.peer_ratio,
        "goal_fraction": row.goal.fraction,
        "notes": problem.notes,
    }


HEADER = f"{'row':<52}{'ours':>10}{'peer':>10}{'best peer':>10}{'ratio':>8}{'q25':>7}{'limit':>9}{'of it':>7} {'by':<5}{'clean':>6}"


def line(row):
    times = "".join(f"{us(row[k]):>10}" for k in ("ours_us", "peer_us", "best_peer_us"))
    ratio = "".join(f"{'-' if row[k] is None else format(row[k], '.2f'):>{width}}" for k, width in (("ratio", 8), ("ratio_q25", 7)))
    fraction = "-" if row["limit_fraction"] is None else f"{100 * row['limit_fraction']:.0f} %"
    name = f"{row['operation']} {row['shape']} {row['dtype']} x{row['threads']}"
    return f"{name:<52}{times}{ratio}{us(row['limit_us']):>9}{fraction:>7} {row['limit_by']:<5}{row['clean_samples']:>6}"


def totals(found):
    """What the run says at its end; cold rows are extras."""
    measured = [r for r in found if not r["cold"] and r["ratio"] is not None]
    return {
        "rows": len([r for r in found if not r["cold"]]),
        "contended": len([r for r in found if not r["cold"] and r["contended"]]),
        "median_ratio": sampling.quantile([r["ratio"] for r in measured], 0.5) if measured else None,
        "below": [
            f"{r['operation']} {r['shape']} {r['dtype']} threads={r['threads']}: {r['ratio_q25']:.2f}"
            for r in measured
            if r["ratio_q25"] < 0.95
        ],
    }


def arguments():
    parser = argparse.ArgumentParser(prog="./dev bench peers")
    parser.add_argument("library", help=argparse.SUPPRESS)
    parser.add_argument("--torch-loops", help=argparse.SUPPRESS)
    parser.add_argument(
        "--quick", action="store_true", help="all operations, fewer rounds, one thread but for LoRA at r = 16, no cold rows"
    )
    parser.add_argument("--json", metavar="FILE", help="write the results there")
    parser.add_argument("--rows", metavar="REGEX", default="", help="only rows whose name (OPERATION SHAPE DTYPE threads=N) has a match")
    parser.add_argument("--threads", metavar="N[,N...]", default=None, help="default: 1 and 2, as far as there are processors")
    parser.add_argument("--rounds", type=int, default=None, metavar="N", help="default: 40, with --quick 20")
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    return parser.parse_args()


def main():
    options = arguments()
    processors = len(os.sched_getaffinity(0))  # before OpenMP binds this thread to one of them
    missing = {name: value for name, value in ENVIRONMENT.items() if os.environ.get(name) != value}
    with open("/proc/cpuinfo") as file:
        if "avx512f" in file.read() and os.environ.get("OPENBLAS_CORETYPE") != "SkylakeX":
            missing["OPENBLAS_CORETYPE"] = "SkylakeX"
    if missing:
        os.execve(sys.executable, [sys.executable, "-B", *sys.argv], {**os.environ, **missing})

    started = time.time()
    import ctypes

    import torch  # before our library: its libgomp.so.1 is then the one that ours is given

    import operations

    library = ctypes.CDLL(options.library)
    loops = ctypes.CDLL(options.torch_loops) if options.torch_loops else None
    libraries = {"Eigen": "eigen", **{name: file if os.path.exists(file) else None for name, file in LIBRARIES.items()}}
    bench = operations.Bench(library, loops, libraries)
    bench.use(1)
    rounds = options.rounds or (20 if options.quick else 40)
    threads = [int(t) for t in options.threads.split(",")] if options.threads else [t for t in (1, 2) if t <= processors]
    chosen = [
        r for r in table.rows(threads, every_thread_count=not options.quick, cold=not options.quick) if re.search(options.rows, r.name)
    ]
    if not chosen:
        sys.exit(f"no row matches {options.rows!r}")

    import peft

    name, flags = processor()
    caches = limits.caches(library)
    machine = {
        "processor": name,
        "flags": flags,
        "processors": processors,
        "caches": caches,
        "kernel": platform.release(),
        "graft": library.graft_version().decode(),
        "instruction_set": library.graft_isa().decode(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "peft": peft.__version__,
        "torch_capability": torch.backends.cpu.get_cpu_capability(),
        "torch_libraries": [l.strip(" -") for l in torch.__config__.show().splitlines() if re.match(r"\s*- Intel", l)],
        "onednn": onednn(),
        "libtorch_loops": loops is not None,
        "libraries": [n for n, file in libraries.items() if file is not None],
        "not_installed": [n for n, file in libraries.items() if file is None],
        "environment": {k: v for k, v in sorted(os.environ.items()) if k.startswith(SHOWN)},
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"),
        "rounds": rounds,
        "quick": options.quick,
        "seed": options.seed,
    }
    print(f"{name}, {processors} processors; {' '.join(flags)}")
    print("caches: " + ", ".join(f"{k} {v >> 10} KiB" for k, v in caches.items()))
    print(
        f"graft {machine['graft']} at {machine['instruction_set']}; PyTorch {torch.__version__} ({machine['torch_capability']}), PEFT {peft.__version__}"
    )
    for text in machine["torch_libraries"]:
        print("PyTorch has " + text)
    print("oneDNN in it: " + machine["onednn"])
    print("environment: " + " ".join(f"{k}={v}" for k, v in machine["environment"].items()))
    for n in machine["not_installed"]:
        print(f"{n}: skipped, {LIBRARIES[n]} is not installed")
    if loops is None:
        print("PyTorch without Python: skipped, its loops were not built")

    before = {t: limits.measure(library, t) for t in threads}
    for t in threads:
        print("limits at the start: " + limits.sentence(t, before[t]))
    print(f"\ntimes in us, 10th percentile; ratio = best peer / ours, median and lower quartile over {rounds} rounds\n{HEADER}")
    found, failed = [], []
    for index, row in enumerate(chosen):
        try:
            problem = operations.problem_of(row, bench, options.seed + index)
            operations.check(problem)
        except RuntimeError as error:
            failed.append(f"{row.name}: {error}")
            print(failed[-1])
            continue
        found.append(run_row(row, problem, bench, rounds, options.seed + index, before[row.threads], caches))
        del problem
        print(line(found[-1]), flush=True)
    after = {t: limits.measure(library, t) for t in threads}
    for t in threads:
        print(("\n" if t == threads[0] else "") + "limits at the end: " + limits.sentence(t, after[t]))
    runtimes = openmp_runtimes()
    print("OpenMP runtimes in this process: " + ", ".join(runtimes))
    machine["openmp"] = [os.path.basename(f) for f in runtimes]
    if len(runtimes) != 1:
        failed.append(f"there must be exactly one OpenMP runtime in the process, not {len(runtimes)}")

    # Held against the fastest that the machine was seen to be in this run.
    of_run = {t: limits.larger(before[t], after[t]) for t in threads}
    for row, source in zip(
        found,
        [r for r in chosen if any(r.name == f"{f['operation']} {f['shape']} {f['dtype']} threads={f['threads']}" for f in found)],
        strict=True,
    ):
        row["limit_us"], row["limit_by"] = table.limit(source, of_run[row["threads"]], caches)
        row["limit_fraction"] = row["limit_us"] / row["ours_us"] if row["ours_us"] else None
    contended = [t for t in threads if min(before[t]["fma_flops"], after[t]["fma_flops"]) < 0.9 * of_run[t]["fma_flops"]]
    machine["contended"] = bool(contended)
    if contended:
        print("contended: the peak of fused multiply-adds was not the same at the start and the end")
    end = totals(found)
    ratio = "-" if end["median_ratio"] is None else f"{end['median_ratio']:.2f}"
    print(
        f"{end['rows']} rows, {end['contended']} contended; median ratio {ratio}; {len(end['below'])} rows with a lower quartile below 0.95; {time.time() - started:.0f} s"
    )
    for text in end["below"]:
        print("  " + text)
    if options.json:
        with open(options.json, "w") as file:
            json.dump(
                {
                    "machine": machine,
                    "limits": {str(t): {"start": before[t], "end": after[t], "used": of_run[t]} for t in threads},
                    "totals": end,
                    "rows": found,
                },
                file,
                indent=1,
            )
            file.write("\n")
    if failed:
        sys.exit("failed:\n  " + "\n  ".join(failed))


if __name__ == "__main__":
    main()
