"""The NVIDIA driver as a Debian package: a kernel module (a file here), `libnvidia-ml.so.1`, and `nvidia-smi`,
which as on real machines asks the library for its version and compares it with the module's."""

import subprocess
from functools import cache
from pathlib import Path

from pack import cc, deb, sh

LIB = "usr/lib/" + subprocess.check_output(["gcc", "-print-multiarch"], text=True).strip()

NVML = 'const char *nvmlSystemGetDriverVersion(void) { return "%s"; }\n'

MODULE = r"""
#include <stdio.h>
#include <string.h>

/* The version of the loaded kernel module; empty if there is none. */
static const char *module_version(void)
{
    static char version[32];
    FILE *module = fopen("/usr/lib/nvidia/nvidia.ko", "r");
    if (!module || fscanf(module, "NVRM version: %31s", version) != 1)
        version[0] = 0;
    if (module)
        fclose(module);
    return version;
}
"""

MODPROBE = (
    MODULE
    + r"""
int main(void)
{
    const char *version = module_version();
    if (strcmp(version, "VERSION") != 0) {
        fprintf(stderr, "nvidia-modprobe: kernel module nvidia: not found\n");
        return 1;
    }
    printf("NVRM version: NVIDIA UNIX Kernel Module  %s\n", version);
    return 0;
}
"""
)

SMI = (
    MODULE
    + r"""
const char *nvmlSystemGetDriverVersion(void);

int main(void)
{
    const char *library = nvmlSystemGetDriverVersion();
    if (strcmp(library, module_version()) != 0) {
        printf("Failed to initialize NVML: Driver/library version mismatch (NVML %s)\n", library);
        return 18;
    }
    printf("NVIDIA-SMI %s    Driver Version: %s\n", library, library);
    return 0;
}
"""
)

@cache
def nvml(driver: str) -> bytes:
    return cc("-shared", "-fPIC", "-Wl,-soname,libnvidia-ml.so.1", "l.c", sources={"l.c": NVML % driver})


@cache
def smi() -> bytes:
    return cc("smi.c", "libnvidia-ml.so.1", sources={"smi.c": SMI, "libnvidia-ml.so.1": nvml("")})


def driver_files(driver: str) -> dict[str, str | bytes]:
    return {
        "usr/bin/nvidia-modprobe": cc("m.c", sources={"m.c": MODPROBE.replace("VERSION", driver)}),
        "usr/bin/nvidia-smi": smi(),
        "usr/lib/nvidia/nvidia.ko": f"NVRM version: {driver}\n",
        f"{LIB}/libnvidia-ml.so.1": nvml(driver),
    }


def driver_package(folder: Path, driver: str) -> None:
    postinst = sh(f'echo "nvidia-driver {driver} installed successfully."')
    deb(
        folder,
        "nvidia-driver",
        driver,
        driver_files(driver),
        scripts={"postinst": postinst},
        description="NVIDIA kernel module, libnvidia-ml and nvidia-smi",
    )
