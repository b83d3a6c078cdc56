"""What the machine allows, by benchmarks/support/limits.hpp. Standard library only."""

import ctypes

KINDS = {"read": 0, "update": 2, "copy": 3}  # the copy goes around the caches
LEVELS = ("L1", "L2", "L3", "DRAM")
SECONDS = 1.5  # for all figures of a thread count


class Found(ctypes.Structure):
    """struct graft_limits."""

    _fields_ = [
        ("fma", ctypes.c_double),
        ("bandwidth", ctypes.c_double * 4 * 4),
        ("fork_join", ctypes.c_double),
        ("barrier", ctypes.c_double),
        ("bytes", ctypes.c_double * 4),
        ("capacity", ctypes.c_double * 4),
    ]


def caches(library):
    """Bytes of L1 (data) and L2 of one core, and of the last cache; usual sizes of the first two where the system does not say."""
    library.graft_limits_cache_bytes.restype = ctypes.c_size_t
    l1, l2, last = (library.graft_limits_cache_bytes(level) for level in range(3))
    return {"L1": l1 or 32 << 10, "L2": l2 or 1 << 20, "L3": last}


def measure(library, threads):
    """{"fma_flops", "bytes_per_second": {level: {kind}}, "fork_join_us", "vector_bits"} for so many threads."""
    library.graft_limits_measure.argtypes = [ctypes.c_int, ctypes.c_double, ctypes.c_int, ctypes.POINTER(Found)]
    library.graft_limits_measure.restype = None
    library.graft_limits_bf16_dots.argtypes = [ctypes.c_int, ctypes.c_double]
    library.graft_limits_bf16_dots.restype = ctypes.c_double
    found = Found()
    library.graft_limits_measure(threads, SECONDS, 0, found)
    return {
        "fma_flops": found.fma,
        "bf16_dot_flops": library.graft_limits_bf16_dots(threads, SECONDS / 20),
        "bytes_per_second": {
            level: {kind: found.bandwidth[index][place] for kind, index in KINDS.items()} for place, level in enumerate(LEVELS)
        },
        "fork_join_us": found.fork_join * 1e6,
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
        for level in LEVELS
    )
    return (
        f"{threads} thread{'s' if threads > 1 else ''}: {found['fma_flops'] / 1e9:.0f} Gflop/s ({found['vector_bits']} bits; bf16 dots {found['bf16_dot_flops'] / 1e9:.0f}), GB/s read/update/copy: {speeds}; "
        f"a parallel region {found['fork_join_us']:.2f} us"
    )
