"""What the machine allows, by benchmarks/support/limits.hpp. Standard library only."""

import ctypes

KINDS = {"read": 0, "update": 2, "copy": 3}  # the copy goes around the caches
SECONDS = 0.05  # for each figure


def caches(library):
    """Bytes of L1 (data) and L2 of one core, and of the last cache; usual sizes of the first two where the system does not say."""
    library.graft_limits_cache_bytes.restype = ctypes.c_size_t
    l1, l2, last = (library.graft_limits_cache_bytes(level) for level in range(3))
    return {"L1": l1 or 32 << 10, "L2": l2 or 1 << 20, "L3": last}


def measure(library, threads, caches):
    """{"fma_flops", "bytes_per_second": {level: {kind}}, "fork_join_us", "vector_bits"} for so many threads."""
    for name in ("bandwidth", "fma", "bf16_dots", "fork_join"):
        getattr(library, "graft_limits_" + name).restype = ctypes.c_double
    library.graft_limits_bandwidth.argtypes = [ctypes.c_int, ctypes.c_size_t, ctypes.c_int, ctypes.c_double]
    for name in ("fma", "bf16_dots", "fork_join"):
        getattr(library, "graft_limits_" + name).argtypes = [ctypes.c_int, ctypes.c_double]
    sizes = {"L1": threads * caches["L1"] // 2, "L2": threads * caches["L2"] // 2}
    if caches["L3"]:
        sizes["L3"] = min(caches["L3"] // 2, 64 << 20)
    sizes["DRAM"] = min(max(256 << 20, 4 * caches["L3"]), 2 << 30)
    speeds = {
        level: {kind: library.graft_limits_bandwidth(index, size, threads, SECONDS * (4 if level == "DRAM" else 1)) for kind, index in KINDS.items()}
        for level, size in sizes.items()
    }
    speeds.setdefault("L3", speeds["DRAM"])
    return {
        "fma_flops": library.graft_limits_fma(threads, SECONDS),
        "bf16_dot_flops": library.graft_limits_bf16_dots(threads, SECONDS),
        "bytes_per_second": speeds,
        "fork_join_us": library.graft_limits_fork_join(threads, SECONDS) * 1e6,
        "vector_bits": (128, 256, 512)[library.graft_limits_isa()],
    }


def larger(a, b):
    """Of two measurements the faster of each."""
    return {
        "fma_flops": max(a["fma_flops"], b["fma_flops"]),
        "bf16_dot_flops": max(a["bf16_dot_flops"], b["bf16_dot_flops"]),
        "fork_join_us": min(a["fork_join_us"], b["fork_join_us"]),
        "vector_bits": a["vector_bits"],
        "bytes_per_second": {
            level: {kind: max(speed, b["bytes_per_second"][level][kind]) for kind, speed in kinds.items()}
            for level, kinds in a["bytes_per_second"].items()
        },
    }


def sentence(threads, found):
    speeds = "; ".join(
        f"{level} " + "/".join(f"{found['bytes_per_second'][level][kind] / 1e9:.0f}" for kind in KINDS)
        for level in ("L1", "L2", "L3", "DRAM")
    )
    return (
        f"{threads} thread{'s' if threads > 1 else ''}: {found['fma_flops'] / 1e9:.0f} Gflop/s ({found['vector_bits']} bits; bf16 dots {found['bf16_dot_flops'] / 1e9:.0f}), GB/s read/update/copy: {speeds}; "
        f"a parallel region {found['fork_join_us']:.2f} us"
    )
