"""graft's C interface (include/graft/c/graft.h) for torch tensors: structures, views and prepared calls."""

import ctypes
from ctypes import POINTER, Structure, byref, c_char_p, c_double, c_int32, c_int64, c_size_t, c_uint64, c_void_p

DTYPES = {"float32": 1, "float16": 2, "bfloat16": 3, "float64": 4, "int32": 5, "int64": 6}
OPENMP = 3


class Executor(Structure):
    _fields_ = [("kind", c_int32), ("threads", c_int32), ("allocate", c_void_p), ("deallocate", c_void_p), ("context", c_void_p)]


class View(Structure):
    _fields_ = [("data", c_void_p), ("dtype", c_int32), ("rank", c_int32), ("shape", c_int64 * 4), ("strides", c_int64 * 4)]


def _views(name, *fields):
    """A structure of views, then others."""
    return type(name, (Structure,), {"_fields_": [(f, View) if isinstance(f, str) else f for f in fields]})


Lora = _views("Lora", "A", "B", "bias", ("scale", c_double))
LoraGradients = _views("LoraGradients", "A", "B", "bias")
PackedLora = _views("PackedLora", "A", "panels", "bias", ("scale", c_double), ("out_features", c_int64))
Dora = _views("Dora", "A", "B", "magnitude", "norms", ("scale", c_double))
Vera = _views("Vera", "A", "B", "d", "b")
PackedVera = _views("PackedVera", "A", "panels", "d", "b")
Oft = _views("Oft", "parameters", "rotations", ("features", c_int64), ("block_size", c_int64), ("terms", c_int32))
Boft = _views("Boft", "parameters", "s", "rotations")


class Gate(Structure):
    _fields_ = [
        ("score", c_int32),
        ("renormalize", c_int32),
        ("epsilon", c_double),
        ("scale", c_double),
        ("temperature", c_double),
        ("top_p", c_double),
        ("groups", c_int64),
        ("kept_groups", c_int64),
        ("second_expert", c_int32),
        ("non_finite", c_int32),
        ("threshold", c_double),
        ("seed", c_uint64),
        ("stream", c_uint64),
    ]


def topk_softmax():
    return Gate(score=0, renormalize=1, epsilon=0, scale=1, temperature=1, top_p=1, groups=1, kept_groups=1, threshold=0.5)


class Plan(Structure):
    _fields_ = [(f, c_int64) for f in ("tokens", "choices", "experts", "pairs", "rows", "tiles", "alignment", "tile")] + [
        (f, c_void_p)
        for f in ("counts", "offsets", "permutation", "row_tokens", "inverse", "dropped", "tile_experts", "tile_rows", "status")
    ]


class _PreparedCall(Structure):
    _fields_ = [("function", c_void_p), ("words", c_void_p * 8)]


def view(tensor):
    """The tensor's own memory; None is a view that is not there."""
    if tensor is None:
        return View()
    v = View(data=tensor.data_ptr(), dtype=DTYPES[str(tensor.dtype).removeprefix("torch.")], rank=tensor.dim())
    v.shape[: tensor.dim()] = tensor.shape
    v.strides[: tensor.dim()] = tensor.stride()
    return v


def of(kind, **fields):
    """A structure of tensors and numbers, which keeps its tensors."""
    structure = kind(**{name: view(f) if hasattr(f, "data_ptr") else f for name, f in fields.items()})
    structure.kept = list(fields.values())
    return structure


class Graft:
    def __init__(self, library, threads):
        self.library = library
        self.executor = Executor(kind=OPENMP, threads=threads)
        library.graft_last_error.restype = c_char_p
        library.graft_isa.restype = c_char_p
        library.graft_version.restype = c_char_p
        library.graft_lora_packed_size.restype = c_int64
        library.graft_lora_packed_size.argtypes = [c_int64, c_int64]
        library.graft_plan_bytes.argtypes = [c_int64, c_int64, c_int64, c_int64, POINTER(c_size_t)]
        library.graft_plan_make.argtypes = [
            c_void_p,
            c_void_p,
            c_int64,
            c_int64,
            c_int64,
            c_void_p,
            c_void_p,
            c_void_p,
            c_void_p,
            c_size_t,
            c_void_p,
        ]
        for pack in (library.graft_lora_pack, library.graft_vera_pack):
            pack.argtypes = [c_void_p, c_void_p, c_void_p, c_int64, c_void_p]
        library.peers_repeat.argtypes = [c_void_p, c_size_t, c_int64]

    def check(self, status):
        if status != 0:
            raise RuntimeError(f"graft: {self.library.graft_last_error().decode()}")

    def repeated(self, *calls):
        """call(count) of one or more (function name, argument...), made in C. Arguments after the executor: tensors, structures,
        integers or None; each goes as one word."""
        kept, prepared = [], (_PreparedCall * len(calls))()
        for call, (name, *arguments) in zip(prepared, calls):
            call.function = ctypes.cast(getattr(self.library, name), c_void_p)
            for place, argument in enumerate([self.executor, *arguments]):
                if hasattr(argument, "data_ptr"):
                    kept.append(argument)
                    argument = view(argument)
                if isinstance(argument, Structure):
                    kept.append(argument)
                    argument = ctypes.addressof(argument)
                call.words[place] = argument

        def repeat(count, _kept=kept):
            self.check(self.library.peers_repeat(prepared, len(prepared), count))

        return repeat

    def pack(self, adapter, memory):
        """The packed form of a Lora or Vera; `memory` is a tensor of packed_size elements."""
        packed, pack = (PackedVera(), self.library.graft_vera_pack) if isinstance(adapter, Vera) else (PackedLora(), self.library.graft_lora_pack)
        self.check(pack(byref(self.executor), byref(adapter), memory.data_ptr(), memory.numel(), byref(packed)))
        return packed

    def packed_size(self, m, r):
        return self.library.graft_lora_packed_size(m, r)

    def plan(self, ids, experts, allocate):
        """(plan, its memory) of ids[T, k]; allocate(bytes) gives a tensor."""
        size = c_size_t()
        self.check(self.library.graft_plan_bytes(ids.numel(), experts, 1, 0, byref(size)))
        memory, plan, ids_view = allocate(size.value), Plan(), view(ids)
        self.check(
            self.library.graft_plan_make(
                byref(self.executor), byref(ids_view), experts, 1, 0, None, None, None, memory.data_ptr(), size.value, byref(plan)
            )
        )
        return plan, memory
