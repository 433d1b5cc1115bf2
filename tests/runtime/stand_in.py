"""Stand-ins with which the real provider of TensorRT for RTX loads where there is no NVIDIA driver.

Each is a small C library. Its functions write their names into the file STAND_IN_LOG and answer that there is no
device. The names are those that the provider's libraries import.
"""

import shutil
import subprocess
from pathlib import Path

from zeroseg.runtime.rtx_library import provider_folder

DRIVER = {"libcuda.so.1": ("cu", 100), "libnvidia-ml.so.1": ("nvml", 9)}  # CUDA_ERROR_NO_DEVICE, NVML's not found
RUNTIME = "libcudart.so.13"
RECORD = """
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static int record(const char *name) {
    FILE *file = fopen(getenv("STAND_IN_LOG"), "a");
    fprintf(file, "%s\\n", name);
    fclose(file);
    return ANSWER;
}
"""
VERSION = "int cuDriverGetVersion(int *version) { *version = 13040; return 0; }\n"
# One GPU is described, of the compute capability in STAND_IN_GPU; the offsets are those of CUDA 13's cudaDeviceProp.
ONE_GPU = """
int cudaDeviceGetByPCIBusId(int *device, const char *bus) { record("cudaDeviceGetByPCIBusId"); *device = 0; return 0; }
int cudaGetDeviceProperties(char *properties, int device) {
    record("cudaGetDeviceProperties");
    memset(properties, 0, 512);
    sscanf(getenv("STAND_IN_GPU"), "%d.%d", (int *)(properties + 360), (int *)(properties + 364));
    return 0;
}
const char *cudaGetErrorString(int error) { return "stand-in"; }
const char *cudaGetErrorName(int error) { return "stand-in"; }
"""
# ONNX Runtime lists no GPU where there is none, and the provider names none by itself on Linux. This library registers
# the provider (STAND_IN_PROVIDER) with one function replaced, the one that lists its devices. The numbers are the
# functions' places in OrtApi and OrtEpApi, which no version moves.
ONE_DEVICE = """
#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>
typedef struct { uint32_t version; void *name, *vendor; void *(*devices)(); } Factory;
static void **api, **ep_api;
static void *list_devices(void *factory, void *found, size_t found_count, void **out, size_t most, size_t *count) {
    void *metadata, *device, *status;
    ((void (*)(void **))api[295])(&metadata);  /* CreateKeyValuePairs */
    ((void (*)(void *, const char *, const char *))api[296])(metadata, "pci_bus_id", "0000:00:00.0");
    status = ((void *(*)(int, uint32_t, uint32_t, const char *, void *, void **))ep_api[16])(
        1, 0x10de, 0, "NVIDIA", metadata, &device);  /* CreateHardwareDevice: a GPU */
    if (!status) status = ((void *(*)(void *, void *, void *, void *, void **))ep_api[0])(
        factory, device, NULL, NULL, out);  /* CreateEpDevice */
    *count = status ? 0 : 1;
    return status;
}
static void *in_provider(const char *name) { return dlsym(dlopen(getenv("STAND_IN_PROVIDER"), RTLD_NOW), name); }
void *CreateEpFactories(void *name, void **base, void *logger, Factory **factories, size_t most, size_t *count) {
    void *status;
    api = ((void **(*)(uint32_t))base[0])(24);
    ep_api = ((void **(*)(void))api[317])();  /* GetEpApi */
    status = ((void *(*)(void *, void **, void *, Factory **, size_t, size_t *))in_provider("CreateEpFactories"))(
        name, base, logger, factories, most, count);
    if (!status) factories[0]->devices = list_devices;
    return status;
}
void *ReleaseEpFactory(void *factory) { return ((void *(*)(void *))in_provider("ReleaseEpFactory"))(factory); }
"""


def make_driver(folder: Path) -> None:
    """Libraries with every function of the driver that the provider names."""
    for library, (prefix, answer) in DRIVER.items():
        names = {name for name in imported() if name.startswith(prefix) and name[len(prefix)].isupper()}
        compile_library(folder / library, RECORD.replace("ANSWER", str(answer)) + VERSION, names)


def make_cuda_runtime(folder: Path) -> None:
    """CUDA's runtime library: it describes one GPU, and everything else fails."""
    names = {name.split("@")[0] for name in imported() if name.endswith(f"@{RUNTIME}")}
    version = folder / "version"
    version.write_text(f"{RUNTIME} {{ global: *; }};\n")
    source = RECORD.replace("ANSWER", "100") + ONE_GPU
    compile_library(folder / RUNTIME, source, names, f"-Wl,--version-script={version}")


def make_one_device(folder: Path) -> Path:
    """The library to register in the provider's place. The environment names the provider's (STAND_IN_PROVIDER)."""
    compile_library(folder / "libonedevice.so", ONE_DEVICE, ())
    return folder / "libonedevice.so"


def imported() -> list[str]:
    """The names that the provider's libraries import, with their versions."""
    found = []
    for path in provider_folder().glob("lib*.so"):
        if not path.is_symlink():
            command = ["nm", "-D", "--undefined-only", path]
            found += subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return found


def compile_library(path: Path, source: str, names, *flags: str) -> None:
    """Compile the source and a recording function for every name that it does not define."""
    missing = [name for name in sorted(names) if f" {name}(" not in source and f"*{name}(" not in source]
    text = path.with_suffix(".c")
    text.write_text(source + "".join(f'int {name}(void) {{ return record("{name}"); }}\n' for name in missing))
    command = ["cc", "-shared", "-fPIC", "-w", f"-Wl,-soname,{path.name}", *flags, "-o", path, text, "-ldl"]
    subprocess.run(command, check=True)


def have_tools() -> bool:
    return bool(shutil.which("cc") and shutil.which("nm"))
