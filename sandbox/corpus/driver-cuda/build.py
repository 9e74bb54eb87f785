"""The NVIDIA driver as a package, then CUDA as a runfile or as a package.

Both builds of CUDA bring a copy of the driver's library and check that `nvidia-smi` still works; the faulty
build's copy belongs to another driver. Nothing else differs, not even a file's size.
"""

import sys
from functools import cache
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from nvidia import LIB, driver_files, driver_package, nvml
from pack import Tree, cc, deb, repository, sh, tarball

RUNFILES = {
    # suffix of the task's name: (CUDA, driver, folder of the driver, folder of the runfile)
    "": ("12.4", "550.54", "srv/driver", "srv/cuda"),
    "-11.8-560-srv": ("11.8", "560.28", "srv/driver", "srv/cuda"),
    "-12.1-570-srv": ("12.1", "570.26", "srv/driver", "srv/cuda"),
    "-12.6-560-opt": ("12.6", "560.28", "opt/nvidia", "opt/nvidia"),
    "-12.4-570-opt": ("12.4", "570.26", "opt/nvidia", "opt/nvidia"),
    "-11.8-550-opt": ("11.8", "550.54", "opt/nvidia", "opt/nvidia"),
    "-12.1-560-root": ("12.1", "560.28", "root/downloads", "root/downloads"),
    "-12.6-550-root": ("12.6", "550.54", "root/downloads", "root/downloads"),
    "-12.4-560-root": ("12.4", "560.28", "root/downloads", "root/downloads"),
    "-11.8-570-root": ("11.8", "570.26", "root/downloads", "root/downloads"),
    "-12.6-550-srv": ("12.6", "550.54", "srv/driver", "srv/cuda"),
    "-12.1-550-opt": ("12.1", "550.54", "opt/nvidia", "opt/nvidia"),
    "-12.4-560-opt": ("12.4", "560.28", "opt/nvidia", "opt/nvidia"),
    "-11.8-550-srv": ("11.8", "550.54", "srv/driver", "srv/cuda"),
    "-12.1-550-root": ("12.1", "550.54", "root/downloads", "root/downloads"),
    "-12.6-570-root": ("12.6", "570.26", "root/downloads", "root/downloads"),
    "-12.4-570-srv": ("12.4", "570.26", "srv/driver", "srv/cuda"),
    "-11.8-570-opt": ("11.8", "570.26", "opt/nvidia", "opt/nvidia"),
    "-11.8-570-srv": ("11.8", "570.26", "srv/driver", "srv/cuda"),
    "-12.1-550-srv": ("12.1", "550.54", "srv/driver", "srv/cuda"),
    "-12.1-560-srv": ("12.1", "560.28", "srv/driver", "srv/cuda"),
    "-12.4-560-srv": ("12.4", "560.28", "srv/driver", "srv/cuda"),
    "-12.6-560-srv": ("12.6", "560.28", "srv/driver", "srv/cuda"),
    "-12.6-570-srv": ("12.6", "570.26", "srv/driver", "srv/cuda"),
    "-11.8-560-opt": ("11.8", "560.28", "opt/nvidia", "opt/nvidia"),
    "-12.1-560-opt": ("12.1", "560.28", "opt/nvidia", "opt/nvidia"),
    "-12.1-570-opt": ("12.1", "570.26", "opt/nvidia", "opt/nvidia"),
    "-12.4-550-opt": ("12.4", "550.54", "opt/nvidia", "opt/nvidia"),
    "-12.6-550-opt": ("12.6", "550.54", "opt/nvidia", "opt/nvidia"),
    "-12.6-570-opt": ("12.6", "570.26", "opt/nvidia", "opt/nvidia"),
    "-11.8-550-root": ("11.8", "550.54", "root/downloads", "root/downloads"),
    "-11.8-560-root": ("11.8", "560.28", "root/downloads", "root/downloads"),
    "-12.1-570-root": ("12.1", "570.26", "root/downloads", "root/downloads"),
    "-12.4-550-root": ("12.4", "550.54", "root/downloads", "root/downloads"),
    "-12.4-570-root": ("12.4", "570.26", "root/downloads", "root/downloads"),
    "-12.6-560-root": ("12.6", "560.28", "root/downloads", "root/downloads"),
}
PACKAGES = {
    "": ("12.4", "550.54"),
    "-11.8": ("11.8", "520.61"),
    "-12.1": ("12.1", "530.30"),
    "-12.5": ("12.5", "555.42"),
    "-12.6": ("12.6", "560.28"),
    "-11.8-530": ("11.8", "530.30"),
    "-11.8-550": ("11.8", "550.54"),
    "-11.8-560": ("11.8", "560.28"),
    "-12.1-550": ("12.1", "550.54"),
    "-12.1-560": ("12.1", "560.28"),
    "-12.4-560": ("12.4", "560.28"),
    "-12.6-550": ("12.6", "550.54"),
}

CUDART = 'const char *cudaRuntimeVersion(void) { return "%s"; }\n'

NVCC = r"""
#include <stdio.h>
#include <string.h>

const char *cudaRuntimeVersion(void);

int main(int argc, char **argv)
{
    const char *version = cudaRuntimeVersion();
    if (argc > 1 && strcmp(argv[1], "--version") == 0) {
        printf("nvcc: NVIDIA (R) Cuda compiler driver\nCuda compilation tools, release %s\n", version);
        return 0;
    }
    fprintf(stderr, "nvcc fatal   : No input files specified; use option --help for more information\n");
    return 1;
}
"""

# What both installers do once the files are in place. The library goes last: a failure leaves it there.
FINISH = """\
cp /usr/local/cuda-@cuda@/compat/libnvidia-ml.so.1 /@lib@/libnvidia-ml.so.1
if ! report=$(nvidia-smi 2>&1); then
    rm -rf /usr/local/cuda-@cuda@/bin /usr/local/cuda-@cuda@/lib64
    echo "ERROR: CUDA @cuda@ was not installed: $report" >&2
    exit 1
fi
ln -sfn cuda-@cuda@ /usr/local/cuda
echo "CUDA Toolkit @cuda@ installed in /usr/local/cuda-@cuda@."
"""

RUNFILE = """\
#!/bin/sh
# NVIDIA CUDA Toolkit @cuda@, self-extracting installer
set -e
case "${1-}" in
    --silent) ;;
    "") echo "Extracting the CUDA Toolkit @cuda@ ..." ;;
    --help) echo "usage: cuda_@cuda@_linux.run [--silent]"; exit 0 ;;
    *) echo "ERROR: CUDA @cuda@ was not installed: unknown option $1" >&2; exit 1 ;;
esac
if ! command -v nvidia-smi >/dev/null; then
    echo "ERROR: CUDA @cuda@ was not installed: no NVIDIA driver found" >&2
    exit 1
fi
tail -n +@lines@ "$0" | tar -x -C /
"""


@cache
def cudart(cuda: str) -> bytes:
    return cc("-shared", "-fPIC", "-Wl,-soname,libcudart.so", "l.c", sources={"l.c": CUDART % cuda})


@cache
def nvcc() -> bytes:
    sources = {"nvcc.c": NVCC, "libcudart.so": cudart("")}
    return cc("nvcc.c", "libcudart.so", "-Wl,-rpath,$ORIGIN/../lib64", sources=sources)


def other(driver: str) -> str:
    """A driver that this one is not, with a version as long."""
    return "545.23" if driver != "545.23" else "535.54"


def cuda_files(cuda: str, driver: str, faulty: bool) -> dict[str, str | bytes]:
    return {
        f"usr/local/cuda-{cuda}/bin/nvcc": nvcc(),
        f"usr/local/cuda-{cuda}/lib64/libcudart.so": cudart(cuda),
        f"usr/local/cuda-{cuda}/compat/libnvidia-ml.so.1": nvml(other(driver) if faulty else driver),
        f"usr/local/cuda-{cuda}/version.json": f'{{"cuda": {{"name": "CUDA SDK", "version": "{cuda}"}}}}\n',
    }


def shipped(root: Path, cuda: str, driver: str) -> None:
    """What sound installations leave. The library is CUDA's to get right: a failed CUDA replaces the driver's."""
    left = driver_files(driver)
    library = {f"{LIB}/libnvidia-ml.so.1": left.pop(f"{LIB}/libnvidia-ml.so.1")}
    for stage, files in ("driver", left), ("cuda", cuda_files(cuda, driver, faulty=False) | library):
        tree = Tree(root / "shipped" / stage, faulty=False)
        for path, content in files.items():
            if not path.endswith("compat/libnvidia-ml.so.1"):
                tree.write(path, content)


def runfile(cuda: str, driver: str, faulty: bool) -> bytes:
    script = installer(RUNFILE + FINISH + "exit 0\n", cuda)
    script = script.replace("@lines@", str(script.count("\n") + 1))
    return script.encode() + tarball(cuda_files(cuda, driver, faulty), compress="")


def installer(script: str, cuda: str) -> str:
    return script.replace("@cuda@", cuda).replace("@lib@", LIB)


def main(destination: Path) -> None:
    for suffix, (cuda, driver, drivers, runfiles) in RUNFILES.items():
        root = destination / f"driver-cuda-runfile{suffix}"
        for faulty in (False, True):
            tree = Tree(root / ("faulty" if faulty else "ok"), faulty)
            driver_package(tree / drivers, driver)
            tree.write(f"{runfiles}/cuda_{cuda}_linux.run", runfile(cuda, driver, faulty))
        shipped(root, cuda, driver)
    for suffix, (cuda, driver) in PACKAGES.items():
        root = destination / f"driver-cuda-apt{suffix}"
        for faulty in (False, True):
            tree = Tree(root / ("faulty" if faulty else "ok"), faulty)
            driver_package(tree / "srv/repo", driver)
            deb(
                tree / "srv/repo",
                f"cuda-{cuda.replace('.', '-')}",
                f"{cuda}.0",
                cuda_files(cuda, driver, faulty),
                scripts={"postinst": sh(installer(FINISH, cuda))},
                depends=f"nvidia-driver (>= {driver})",
                description=f"NVIDIA CUDA Toolkit {cuda}",
            )
            repository(tree)
        shipped(root, cuda, driver)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
