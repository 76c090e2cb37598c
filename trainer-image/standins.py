#!/usr/bin/env python3
"""Make torch's CUDA wheel load on a machine that has neither a GPU nor NVIDIA's libraries.

usage: standins.py SITE_PACKAGES

The registry's Linux build of torch is linked against CUDA, so the loader wants those libraries even where no GPU is.
This removes torch's own GPU half (libtorch_cuda and what only it needs, more than 500 MB) and writes, beside torch's
libraries, a small stand-in for each library that is then missing. What must stay true:

- A stand-in has exactly the soname, symbol versions and symbols that torch's remaining objects ask for, no more.
- CUDA's C functions report "no device" (error 100), as the real runtime does on a machine without a GPU, so
  torch.cuda.is_available() is False. A call into torch's removed GPU half ends the process and names the function.
- Nothing of NVIDIA's is copied, and the wheel is refused if it already has NVIDIA's packages beside it.
- Running it twice changes nothing.

Needs gcc and readelf.
"""

import collections
import dataclasses
import pathlib
import re
import subprocess
import sys
import tempfile

REMOVED = ("libtorch_cuda.so", "libtorch_cuda_linalg.so", "libtorch_nvshmem.so", "libcaffe2_nvrtc.so")
SYSTEM = re.compile(
    r"lib(c|m|dl|rt|pthread|gcc_s|stdc\+\+|gomp|gfortran|quadmath|z)[.-]|ld-linux|lib(c10|torch|torch_cpu|torch_python|shm|c10_cuda)\.so"
)
CUDA_FUNCTION = re.compile(r"(__cuda|cu[A-Z]|cuda|cudnn|cublas|cusparse|cufft|cusolver|cupti|nccl|nvshmem|nvrtc|nvtx)")
OWNERS = {
    "cudnn": "libcudnn",
    "cuFile": "libcufile",
    "cupti": "libcupti",
    "nccl": "libnccl",
    "nvrtc": "libnvrtc",
    "cublasLt": "libcublasLt",
    "cublas": "libcublas",
    "cusolver": "libcusolver",
}
NO_DEVICE = 100
SPECIAL = {
    "cudaGetDeviceCount": "int cudaGetDeviceCount(int *n) { if (n) *n = 0; return 100; }",
    "cudaGetLastError": "int cudaGetLastError(void) { return 0; }",
    "cudaPeekAtLastError": "int cudaPeekAtLastError(void) { return 0; }",
    "cudaGetErrorString": 'const char *cudaGetErrorString(int e) { return "no CUDA device (stand-in library)"; }',
    "cudaGetErrorName": 'const char *cudaGetErrorName(int e) { return "cudaErrorNoDevice"; }',
    "cudaRuntimeGetVersion": "int cudaRuntimeGetVersion(int *v) { if (v) *v = 13000; return 0; }",
    "cudaDriverGetVersion": "int cudaDriverGetVersion(int *v) { if (v) *v = 0; return 0; }",
    "__cudaRegisterFatBinary": "static void *fat; void **__cudaRegisterFatBinary(void *p) { return &fat; }",
    # torch's Python module stores a callback through this reference when it is imported
    "_ZN4c10d15get_gil_checkerEv": "static void *slot; void *_ZN4c10d15get_gil_checkerEv(void) { return &slot; }",
    # the options of an NCCL process group are a default argument, so importing torch makes one: give it the base class
    "_ZN4c10d16ProcessGroupNCCL7OptionsC1Eb": """
struct text { char *start; size_t length; char small[16]; };
struct options { void *vtable; size_t references; long timeout_ms; struct text backend, name, description;
                 void *ranks[3]; char flags[2]; };
extern char _ZTVN4c10d7Backend7OptionsE[];
static void empty(struct text *t) { t->start = t->small; t->length = 0; t->small[0] = 0; }
void _ZN4c10d16ProcessGroupNCCL7OptionsC1Eb(struct options *o) {
    o->vtable = _ZTVN4c10d7Backend7OptionsE + 16;
    o->references = 0;
    o->timeout_ms = 600000;
    empty(&o->backend), empty(&o->name), empty(&o->description);
    o->ranks[0] = o->ranks[1] = o->ranks[2] = 0;
    o->flags[0] = o->flags[1] = 0;
}""",
}
# What torch says about itself must follow, or it would register GPU code for kernels that are gone.
ANSWERS = {
    "version.py": (r"^cuda: Optional\[str\] = '.*'$", "cuda: Optional[str] = None"),
    "backends/cuda/__init__.py": (r"^    return torch\._C\._has_cuda$", "    return False"),
    "distributed/distributed_c10d.py": (r"^_NCCL_AVAILABLE = True$", "_NCCL_AVAILABLE = False"),
}
NOTHING = re.compile(r"__cuda(Register(FatBinaryEnd|Function|Var|ManagedVar)|UnregisterFatBinary)$")
PREAMBLE = """\
#include <stdio.h>
#include <stdlib.h>
extern char _ZTVN10__cxxabiv117__class_type_infoE[];
static void gone(const char *name) {
    fprintf(stderr, "%s: this build of torch has no GPU support (stand-in library)\\n", name);
    abort();
}
"""


@dataclasses.dataclass(frozen=True)
class Symbol:
    """One dynamic symbol: `version` is empty where the object names none."""

    name: str
    version: str
    kind: str
    size: int
    defined: bool
    weak: bool


def readelf(*args: str) -> str:
    """The output of readelf; its failure ends the program with its own message."""
    command = ["readelf", "-W", *args]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout  # noqa: S603 - arguments are ours


def needed(path: pathlib.Path) -> list[str]:
    """The sonames that an object asks the loader for."""
    return re.findall(r"\(NEEDED\).*\[(.*?)\]", readelf("-d", str(path)))


def symbols(path: pathlib.Path) -> list[Symbol]:
    """All dynamic symbols of an object."""
    found = []
    for line in readelf("--dyn-syms", str(path)).splitlines():
        parts = line.split()
        if len(parts) < 8 or not parts[0].rstrip(":").isdigit():
            continue
        name, _, version = parts[7].partition("@")
        found.append(
            Symbol(name, version.lstrip("@"), parts[3], int(parts[2], 0), parts[6] != "UND", parts[4] == "WEAK")
        )
    return found


def version_owners(path: pathlib.Path) -> dict[str, str]:
    """Which library must define each symbol version that an object needs."""
    owners, current = {}, ""
    for line in readelf("-V", str(path)).splitlines():
        if found := re.search(r"Version: \d+\s+File: (\S+)", line):
            current = found.group(1)
        elif current and (found := re.search(r"Name: (\S+)\s+Flags: \S+\s+Version: \d+", line)):
            owners[found.group(1)] = current
    return owners


def owner_of(name: str, missing: set[str]) -> str:
    """The missing library to which an unversioned CUDA function belongs, by its prefix."""
    for prefix, library in OWNERS.items():
        if name.startswith(prefix):
            for soname in missing:
                if soname.startswith(library + ".so"):
                    return soname
    return next(soname for soname in missing if soname.startswith("libcudart.so"))


def definition(symbol: Symbol, library: str) -> str:
    """The C source of one symbol."""
    name = symbol.name
    if name in SPECIAL:
        return SPECIAL[name]
    if library not in REMOVED:
        return f"void {name}(void) {{}}" if NOTHING.match(name) else f"int {name}(void) {{ return {NO_DEVICE}; }}"
    if name.startswith("_ZTI"):  # typeinfo: enough for typeid(), which pybind11 reads when classes are registered
        return f'void *{name}[] = {{ _ZTVN10__cxxabiv117__class_type_infoE + 16, "{name[4:]}", 0, 0, 0 }};'
    if symbol.kind == "OBJECT":
        return f"char {name}[{max(symbol.size, 8)}];"
    return f'void {name}(void) {{ gone("{name}"); }}'


def build(soname: str, wanted: dict[str, Symbol], out: pathlib.Path) -> None:
    """Compile one stand-in with its symbol versions."""
    by_version: dict[str, list[str]] = collections.defaultdict(list)
    for name in sorted(wanted):
        by_version[wanted[name].version].append(name)
    by_version.pop("", None)
    lines = [definition(wanted[name], soname) for name in sorted(wanted)]
    with tempfile.TemporaryDirectory() as folder:
        source, script = pathlib.Path(folder, "standin.c"), pathlib.Path(folder, "versions")
        source.write_text((PREAMBLE if soname in REMOVED else "") + "\n".join(lines) + "\n")
        command = ["gcc", "-O1", "-w", "-fno-builtin", "-shared", "-fPIC", "-s", f"-Wl,-soname,{soname}"]
        if by_version:
            script.write_text(
                "".join(f"{ver} {{ global: {'; '.join(names)}; }};\n" for ver, names in by_version.items())
            )
            command.append(f"-Wl,--version-script,{script}")
        libraries = [f"-L{out}", "-ltorch_cpu", "-l:libstdc++.so.6"] if soname in REMOVED else []
        subprocess.run([*command, "-o", str(out / soname), str(source), *libraries], check=True)  # noqa: S603 - as above


def answer(torch: pathlib.Path) -> None:
    """Edit the three places where torch's Python says that it was built with CUDA."""
    for name, (pattern, replacement) in ANSWERS.items():
        text, count = re.subn(pattern, replacement, (torch / name).read_text(), flags=re.MULTILINE)
        if count != 1:
            raise SystemExit(f"{torch / name}: {count} lines match {pattern}, want 1: this script knows torch 2.15")
        (torch / name).unlink()  # the file may be a hard link into uv's cache
        (torch / name).write_text(text)


def main() -> None:
    """Replace the GPU half of the torch in the given site-packages folder."""
    site = pathlib.Path(sys.argv[1])
    lib = site / "torch" / "lib"
    if not lib.is_dir():
        raise SystemExit(f"{lib}: no such folder; install torch there first")
    if (site / "nvidia").exists():
        raise SystemExit(f"{site} has NVIDIA's packages: this torch needs no stand-ins")
    if not (lib / REMOVED[1]).exists():
        print(f"{lib}: the stand-ins are in place")
        return
    removed = {symbol.name: symbol for library in REMOVED for symbol in symbols(lib / library) if symbol.defined}
    kept = sorted(path for path in lib.glob("*.so*") if path.name not in REMOVED)
    kept += [*sorted((site / "torch").glob("_C*.so")), site / "torch" / "bin" / "torch_shm_manager"]
    missing = {soname for path in kept for soname in needed(path) if not SYSTEM.match(soname)}
    defined = {symbol.name for path in kept for symbol in symbols(path) if symbol.defined}
    wanted: dict[str, dict[str, Symbol]] = {soname: {} for soname in sorted(missing)}
    for path in kept:
        owners = version_owners(path)
        for symbol in symbols(path):
            name = symbol.name
            if symbol.defined:
                continue
            if owners.get(symbol.version, "") in missing:
                wanted[owners[symbol.version]][name] = symbol
            elif symbol.version or symbol.weak or name in defined:
                continue
            elif name in removed:
                wanted[REMOVED[0]][name] = dataclasses.replace(removed[name], version="")
            elif CUDA_FUNCTION.match(name):
                wanted[owner_of(name, missing)].setdefault(name, symbol)
    answer(site / "torch")
    saved = 0
    for library in REMOVED:
        saved += (lib / library).stat().st_size
        (lib / library).unlink()
    for soname, names in wanted.items():
        build(soname, names, lib)
    print(f"{lib}: {saved // 1_000_000} MB of GPU code replaced by {len(wanted)} stand-ins: {', '.join(wanted)}")


if __name__ == "__main__":
    main()
