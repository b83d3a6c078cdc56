"""The reference of the API: every public declaration of include/graft with its docstring, read by libclang."""
import re
from dataclasses import dataclass, field
from pathlib import Path

from clang import cindex
from clang.cindex import AccessSpecifier
from clang.cindex import CursorKind as Kind

FUNCTIONS = {Kind.FUNCTION_DECL, Kind.FUNCTION_TEMPLATE, Kind.CXX_METHOD, Kind.CONSTRUCTOR, Kind.DESTRUCTOR, Kind.CONVERSION_FUNCTION}
CLASSES = {Kind.CLASS_DECL, Kind.CLASS_TEMPLATE, Kind.STRUCT_DECL, Kind.UNION_DECL}
OTHERS = {Kind.VAR_DECL, Kind.CONCEPT_DECL, Kind.TYPE_ALIAS_DECL, Kind.TYPE_ALIAS_TEMPLATE_DECL, Kind.ENUM_DECL, Kind.FIELD_DECL,
          Kind.UNEXPOSED_DECL}
INLINE_NAMESPACES = re.compile(r"^(thrown|aborted|handled|target_\w+)$")  # GRAFT_CONTRACT and GRAFT_TARGET


@dataclass
class Entity:
    name: str
    kind: Kind
    declaration: str
    doc: list[str]
    first: int  # lines
    last: int
    members: list["Entity"] = field(default_factory=list)


def is_public(header):
    """Headers in folders `detail` and `host` are nobody's but ours."""
    return not {"detail", "host"} & set(Path(header).parts) and not header.endswith(".inl.hpp")


def lines_of_doc(text):
    """A docstring without its marks."""
    return [re.sub(r"^\s*///<? ?", "", line) for line in text.split("\n")]


def tidy(text):
    """A declaration without what says nothing to a caller, its lines indented as clang-format left them."""
    text = re.sub(r"\[\[(?:nodiscard|no_unique_address|maybe_unused)\]\]\s*|\b(?:GRAFT_FN|GRAFT_INLINE|inline)\s+", "", text)
    text = re.sub(r"[ \t]*//[^\n]*", "", text).strip()
    lines = [line.rstrip() for line in text.split("\n") if line.strip()]
    indents = [len(line) - len(line.lstrip()) for line in lines[1:]]
    # Inside of a class everything but the first line is two columns further in.
    drop = 2 if indents and min(indents) >= 2 else 0
    return "\n".join(lines[:1] + [line[drop:] for line in lines[1:]])


# What CUDA's compiler knows: files that are CUDA are read as C++ here, without its toolkit.
CUDA_NAMES = """#pragma once
#define __host__
#define __device__
#define __global__
#define __shared__
#define __forceinline__ inline
#define __align__(n)
#define __launch_bounds__(...)
struct CUstream_st;
using cudaStream_t = CUstream_st*;
enum cudaError_t { cudaSuccess };
enum cudaDeviceAttr {
  cudaDevAttrMultiProcessorCount, cudaDevAttrMaxThreadsPerMultiProcessor, cudaDevAttrMaxSharedMemoryPerBlockOptin
};
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };
struct dim3 { unsigned x, y, z; dim3(unsigned = 1, unsigned = 1, unsigned = 1); };
inline dim3 threadIdx, blockIdx, blockDim, gridDim;
void __syncthreads();
void __syncwarp(unsigned);
template <class T> T __shfl_xor_sync(unsigned, T, int, int);
cudaError_t cudaGetDevice(int*);
cudaError_t cudaDeviceGetAttribute(int*, cudaDeviceAttr, int);
cudaError_t cudaFuncSetAttribute(void const*, cudaFuncAttribute, int);
cudaError_t cudaLaunchKernel(void const*, dim3, dim3, void**, unsigned long, cudaStream_t);
cudaError_t cudaStreamSynchronize(cudaStream_t);
cudaError_t cudaGetLastError();
char const* cudaGetErrorString(cudaError_t);
char const* cudaGetErrorName(cudaError_t);
struct __half { unsigned short bits; };
struct __nv_bfloat16 { unsigned short bits; };
"""


class Reader:
    """All of include/graft in one translation unit. A package that is not here (Kokkos) leaves types unknown, no declarations out."""

    def __init__(self, include, library, resources):
        self.include = Path(include)
        headers = sorted(str(p.relative_to(self.include)) for p in self.include.rglob("*.hpp"))
        entries = [h for h in headers if h.count("/") == 1]  # graft/x.hpp: they come before what may not be included alone
        self.headers = [h for h in headers if is_public(h)]
        main = '#include "cuda_names.h"\n#define __CUDACC__\n#include <graft/cuda.hpp>\n#undef __CUDACC__\n'
        main += "".join(f"#include <{h}>\n" for h in entries)
        names = [(f"{include}/cuda_names.h", CUDA_NAMES)]
        names += [(f"{include}/cuda_{h}.h", '#include "cuda_names.h"\n') for h in ("runtime", "fp16", "bf16")]
        cindex.Config.set_library_file(str(library))
        keep_going = 0x200
        unit = cindex.Index.create().parse(
            "all.cpp", unsaved_files=[("all.cpp", main), *names], options=keep_going,
            args=["-std=c++20", f"-I{include}", "-fopenmp", "-resource-dir", str(resources), "-DGRAFT_HOST_BODIES_ELSEWHERE",
                  "-isystem", "/usr/include/eigen3"])
        wrong = [d for d in unit.diagnostics if d.severity >= 3 and "okkos" not in str(d) and "too many errors" not in d.spelling]
        if wrong:
            raise SystemExit("docs: the headers do not compile: " + "; ".join(str(d) for d in wrong[:3]))
        self.texts = {h: (self.include / h).read_bytes() for h in self.headers}
        self.entities = {h: [] for h in self.headers}
        self.walk(unit.cursor, [])
        for header in self.headers:
            self.entities[header].sort(key=lambda e: e.first)
            self.add_macros(header)

    def walk(self, cursor, namespaces):
        for child in cursor.get_children():
            file = child.location.file
            if not file or not file.name.startswith(str(self.include)):
                continue
            if child.kind == Kind.NAMESPACE:
                name = child.spelling
                self.walk(child, namespaces + ([] if INLINE_NAMESPACES.match(name) else [name]))
            elif "detail" not in namespaces and namespaces[:1] == ["graft"]:
                header = str(Path(file.name).relative_to(self.include))
                if header in self.entities and (entity := self.entity(child, header)):
                    entity.name = "::".join(namespaces[1:] + [entity.name])
                    if not any(e.first == entity.first for e in self.entities[header]):
                        self.entities[header].append(entity)

    def source(self, header, start, end):
        return self.texts[header][start:end].decode()

    def entity(self, cursor, header):
        if cursor.kind not in FUNCTIONS | CLASSES | OTHERS or not cursor.spelling or cursor.spelling.startswith("("):
            return None
        if cursor.kind in CLASSES and not cursor.is_definition():
            return None
        if cursor.kind in FUNCTIONS and cursor.semantic_parent != cursor.lexical_parent:
            return None  # a member's definition elsewhere
        start, end = cursor.extent.start.offset, cursor.extent.end.offset
        text = self.source(header, start, end)
        result = Entity(cursor.spelling, cursor.kind, "", lines_of_doc(cursor.raw_comment or ""), cursor.extent.start.line, cursor.extent.end.line)
        if not cursor.raw_comment:
            result.doc = []
        if cursor.kind in FUNCTIONS:
            for child in cursor.get_children():
                if child.kind == Kind.COMPOUND_STMT:
                    text = self.source(header, start, child.extent.start.offset)
            if cursor.kind == Kind.CONSTRUCTOR or (cursor.kind == Kind.FUNCTION_TEMPLATE and re.search(r"\)\s*:[^:]", text)):
                text = re.sub(r"(\)(?:\s*noexcept)?)\s*:[^:].*$", r"\1", text, flags=re.S)
            if re.match(r".*\boperator\b.*=\s*delete$", text, re.S):
                return None
        elif cursor.kind in CLASSES:
            self.members(cursor, header, result)
            text = re.match(r"[^{]*", text)[0]
        result.declaration = tidy(text)
        return result

    def members(self, cursor, header, result):
        for child in cursor.get_children():
            if child.access_specifier not in (AccessSpecifier.PUBLIC, AccessSpecifier.INVALID):
                continue
            if child.kind in FUNCTIONS | OTHERS | CLASSES and (member := self.entity(child, header)):
                if member.name not in ("operator=", "mandates") and not member.declaration.startswith("static_assert") and "= delete" not in member.declaration:
                    result.members.append(member)

    def add_macros(self, header):
        """Macros that have a docstring: libclang keeps no comments of them."""
        text = self.texts[header].decode()
        for match in re.finditer(r"((?:^///[^\n]*\n)+)(?:^#(?:if|ifndef|ifdef)[^\n]*\n)?^#\s*define (\w+(?:\([^)]*\))?)", text, re.M):
            if "@file" not in match[1]:
                line = text.count("\n", 0, match.start()) + 1
                self.entities[header].append(
                    Entity(match[2].split("(")[0], Kind.MACRO_DEFINITION, f"#define {match[2]}", lines_of_doc(match[1].rstrip()), line, line))
        self.entities[header].sort(key=lambda e: e.first)

    def file_doc(self, header):
        match = re.search(r"^/// @file\n((?:^///[^\n]*\n)*)", self.texts[header].decode(), re.M)
        return lines_of_doc(match[1].rstrip()) if match else []


def groups(entities):
    """Entities and those without a docstring that follow directly, which share it; then the undocumented rest."""
    together, bare = [], []
    for entity in entities:
        of = re.search(r"(\w+_fn)\b", entity.declaration) if entity.kind == Kind.VAR_DECL else None
        named = [g for g in together if of and g[0].name.split("::")[-1] == of[1]]
        if named:  # the object of a class of its own: the name by which it is called
            named[0].append(entity)
        elif entity.doc:
            together.append([entity])
        elif together and entity.first <= together[-1][-1].last + 1:
            together[-1].append(entity)
        else:
            bare.append(entity)
    return together, bare


def names_of(group):
    names = list(dict.fromkeys(e.name for e in group))
    return [n for n in names if len(names) == 1 or not n.endswith("_fn")]


def escaped(text):
    """Prose of a docstring as Markdown: `code` stays, everything else is meant literally."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(p if p.startswith("`") else re.sub(r"([\\*_<>\[\]#])", lambda m: {"<": "&lt;", ">": "&gt;"}.get(m[1], "\\" + m[1]), p) for p in parts)


def markdown(doc):
    """A docstring: paragraphs, its table of sections (Shapes, Cost, ...), formulas that are indented by four."""
    out, rows, paragraph = [], [], []

    def flush():
        if paragraph:
            out.append(escaped(" ".join(paragraph)) + "\n")
            paragraph.clear()
        if rows:
            out.append("| | |\n|---|---|")
            out.extend(f"| **{name}** | {escaped(text).replace('|', '&#124;')} |" for name, text in rows)
            out.append("")
            rows.clear()

    for line in doc:
        section = re.match(r"([A-Z][a-z]+(?: [a-z]+)?) {2,}(\S.*)$", line)
        if section:
            if paragraph:
                flush()
            rows.append([section[1], section[2]])
        elif rows and re.match(r" {8,}\S", line):
            rows[-1][1] += " " + line.strip()
        elif line.startswith("    "):
            if paragraph or rows:
                flush()
            if out and not out[-1].startswith("    "):
                out.append("")
            out.append(line)
        elif not line.strip():
            flush()
        else:
            if rows:
                flush()
            if out and out[-1].startswith("    "):
                out.append("")
            paragraph.append(line.strip())
    flush()
    return "\n".join(out)


def synopsis(entity):
    """A declaration; of a class with its public members."""
    if entity.kind not in CLASSES:
        return entity.declaration + ("" if entity.kind == Kind.MACRO_DEFINITION else ";")
    lines = [entity.declaration + " {"]
    for member in entity.members:
        lines += ["  " + line for line in synopsis(member).split("\n")]
    return "\n".join(lines + ["};"])


def page(reader, header):
    """The page of a header, how many names it documents, and which it does not."""
    together, bare = groups(reader.entities[header])
    out = [f"# {header}\n", markdown(reader.file_doc(header)), f"```cpp\n#include <{header}>\n```\n"]
    count = 0
    for group in together:
        names = names_of(group)
        count += len(names)
        out.append("## " + ", ".join(escaped(n) for n in names) + "\n")
        out.append("```cpp\n" + "\n".join(synopsis(e) for e in group) + "\n```\n")
        out.append(markdown(group[0].doc))
        for member in group[0].members:
            if member.doc:
                first = re.sub(r"^(?:template <.*?>\s*(?=\w))", "", " ".join(member.declaration.split()))
                out.append(f"**`{first}`**\n")
                out.append(markdown(member.doc))
    return "\n".join(out), count, bare
