"""The driver as a package, then a library built from source by a quiet Makefile; `V=1` makes it talk."""

import sys
from pathlib import Path

CORPUS = Path(__file__).parents[1]
sys.path += [str(CORPUS), str(CORPUS / "driver-cuda")]

from nvidia import driver_package
from pack import Tree, c_function, c_main

LIBRARIES = {
    # suffix of the task's name: (title, library, folder, driver)
    "": ("NCCL 2.20", "nccl", "srv/src/nccl-2.20", "550.54"),
    "-nccl-2.18": ("NCCL 2.18", "nccl", "srv/src/nccl-2.18", "535.54"),
    "-ucx": ("UCX 1.15", "ucx", "srv/src/ucx-1.15", "545.23"),
    "-gdrcopy": ("GDRCopy 2.4", "gdrcopy", "srv/src/gdrcopy-2.4", "550.54"),
    "-hwloc": ("hwloc 2.10", "hwloc", "srv/src/hwloc-2.10", "560.28"),
    "-nvshmem": ("NVSHMEM 2.11", "nvshmem", "srv/src/nvshmem-2.11", "545.23"),
    "-ucc": ("UCC 1.3", "ucc", "srv/src/ucc-1.3", "535.54"),
    "-petsc": ("PETSc 3.21", "petsc", "srv/src/petsc-3.21", "550.54"),
    "-metis": ("METIS 5.2", "metis", "srv/src/metis-5.2", "560.28"),
    "-scotch": ("Scotch 7.0", "scotch", "srv/src/scotch-7.0", "555.42"),
    "-zfp": ("zfp 1.0", "zfp", "srv/src/zfp-1.0", "530.30"),
    "-gsl": ("GSL 2.8", "gsl", "srv/src/gsl-2.8", "545.23"),
    "-openblas": ("OpenBLAS 0.3", "openblas", "srv/src/openblas-0.3", "555.42"),
    "-magma": ("MAGMA 2.7", "magma", "srv/src/magma-2.7", "530.30"),
    "-libfabric": ("libfabric 1.20", "libfabric", "srv/src/libfabric-1.20", "550.54"),
    "-pmix": ("PMIx 4.2", "pmix", "srv/src/pmix-4.2", "560.28"),
    "-fftw": ("FFTW 3.3", "fftw", "srv/src/fftw-3.3", "545.23"),
    "-hdf5": ("HDF5 1.14", "hdf5", "srv/src/hdf5-1.14", "535.54"),
    "-superlu": ("SuperLU 6.0", "superlu", "srv/src/superlu-6.0", "550.54"),
    "-openmpi": ("Open MPI 4.1", "openmpi", "srv/src/openmpi-4.1", "545.23"),
}

MAKEFILE = """\
# Quiet unless V=1.
ifneq ($(V),1)
Q = @
endif
CFLAGS ?= -O1
OBJECTS = build/transport.o build/lib@library@.o

all: build/@library@-info

build/%.o: src/%.c
	$(Q)mkdir -p build
	$(Q)$(CC) $(CFLAGS) -c -o $@ $<

build/@library@-info: $(OBJECTS) build/main.o
	$(Q)$(CC) -o $@ $^

install: all
	$(Q)install -D build/@library@-info $(DESTDIR)/usr/local/bin/@library@-info
ifeq ($(V),1)
	@echo "@title@ installed in $(DESTDIR)/usr/local."
endif

clean:
	rm -rf build
"""

TRANSPORT = """\
/* How the parts of @library@ reach each other. */
static const int ports[] = {7410, 7411, 7412};

int @library@_port(unsigned int rank)
{
    return ports[rank % (sizeof ports / sizeof *ports)]@end@
}
"""


def source(library: str, title: str, faulty: bool) -> dict[str, str]:
    texts = {
        "Makefile": MAKEFILE,
        # the fault: a statement without its semicolon
        "src/transport.c": TRANSPORT.replace("@end@", " " if faulty else ";"),
        f"src/lib{library}.c": c_function(f"{library} {title}", "checksum"),
        "src/main.c": c_main(library),
        "README": "Build with `make`, install with `make install`. The build is quiet; V=1 shows its log.\n",
    }
    return {path: text.replace("@library@", library).replace("@title@", title) for path, text in texts.items()}


def main(destination: Path) -> None:
    for suffix, (title, library, folder, driver) in LIBRARIES.items():
        for faulty in (False, True):
            tree = Tree(destination / f"verbose-build{suffix}" / ("faulty" if faulty else "ok"), faulty)
            for path, text in source(library, title, faulty).items():
                tree.write(f"{folder}/{path}", text)
            driver_package(tree / "srv/driver", driver)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
