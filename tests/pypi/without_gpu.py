"""Makes torch's wheel for GPUs usable without the gigabytes of CUDA libraries that it links to.

torch of the package index is linked against cuBLAS, cuDNN, NCCL and others, so it does not load without them, though
nothing of them is called on a CPU. This puts libraries of the same names beside it whose functions all end the process.
Those that torch calls when it is loaded (cudart, cupti, cufile) are small and must be installed for real.

    python without_gpu.py SITE_PACKAGES
"""
import re
import subprocess
import sys
import tempfile
from pathlib import Path

# By the first characters of a function's name, longest first.
LIBRARIES = {"cublasLt": "libcublasLt.so.12", "cublas": "libcublas.so.12", "cufft": "libcufft.so.11",
             "cudnn": "libcudnn.so.9", "nccl": "libnccl.so.2", "curand": "libcurand.so.10",
             "cusparseLt": "libcusparseLt.so.0", "cusparse": "libcusparse.so.12", "cusolver": "libcusolver.so.11",
             "nvshmem": "libnvshmem_host.so.3"}


def wanted(folder):
    """{library: {function: version or ""}} of what the libraries in `folder` miss."""
    found = {soname: {} for soname in LIBRARIES.values()}
    prefixes = sorted(LIBRARIES, key=len, reverse=True)
    for library in folder.glob("lib*.so"):
        listed = subprocess.run(["nm", "-D", "--undefined-only", "--with-symbol-versions", library],
                                capture_output=True, text=True, check=True).stdout
        for name, version in re.findall(r" [Uw] (\w+)@?([\w.]*)", listed):
            soname = next((LIBRARIES[p] for p in prefixes if name.startswith(p)), None)
            if soname is not None:
                found[soname][name] = version
    return found


def build(path, functions):
    with tempfile.TemporaryDirectory() as work:
        source, script = Path(work, "empty.c"), Path(work, "versions")
        source.write_text("".join(f"void {name}(void) {{ __builtin_trap(); }}\n" for name in functions))
        nodes = {}
        for name, version in functions.items():
            nodes.setdefault(version, []).append(name)
        script.write_text("".join(f"{version} {{ {'; '.join(names)}; }};\n"
                                  for version, names in nodes.items() if version))
        versions = [f"-Wl,--version-script={script}"] if any(nodes) else []
        subprocess.run(["cc", "-shared", "-fPIC", "-nostdlib", "-fno-builtin", "-w", f"-Wl,-soname,{path.name}",
                        *versions, source, "-o", path], check=True)


def main(site_packages):
    folder = Path(site_packages, "torch", "lib")
    for soname, functions in wanted(folder).items():
        build(folder / soname, functions)


if __name__ == "__main__":
    main(sys.argv[1])
