#!/bin/sh
# Beside the bundle's archives: unpacks them once, takes in parts of a model, and runs a command with everything set.
#
#   sh run.sh COMMAND…      `devnull …` is this project's; `python …` has its packages; the command runs in its tree
#
# Heeded: PYTHON (with torch; default python3), BUNDLE_HOME (where it is unpacked; default /tmp/devnull-bundle), OUT.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
home=${BUNDLE_HOME:-/tmp/devnull-bundle} python=${PYTHON:-python3}
mkdir -p "$home/wheels" "$home/cache/devnull"

if [ ! -f "$home/unpacked" ]; then
    [ -f "$here/site.tar.xz" ] || { echo "run.sh: $home is empty, and no archive lies beside run.sh" >&2 && exit 1; }
    tar -xJf "$here/site.tar.xz" -C "$home" & site=$!
    mkdir -p "$home/tree" "$home/rootfs"
    chmod 700 "$home/rootfs"
    owner=$([ "$(id -u)" = 0 ] && echo --same-owner || echo --no-same-owner)
    tar --numeric-owner "$owner" --same-permissions -xJf "$here/root.tar.xz" -C "$home/rootfs" & rootfs=$!
    tar -xJf "$here/tree.tar.xz" -C "$home/tree"
    wait "$site" && wait "$rootfs"
fi
# One name for the rooms of the package whatever lies in the folder where the command is given.
mkdir -p "$home/bin"
export PYTHONPATH="$home/site-packages:$home/tree/src" XDG_CACHE_HOME="$home/cache" HF_HUB_OFFLINE=1
export TRANSFORMERS_OFFLINE=1 PIP_NO_INDEX=1 PIP_FIND_LINKS="$home/wheels" PYTHON="$python" PATH="$home/bin:$PATH"
export TOKENIZERS_PARALLELISM=false BUNDLE_HOME="$home"
if [ ! -f "$home/unpacked" ]; then
    printf '#!/bin/sh\nexec "%s" -m devnull "$@"\n' "$python" >"$home/bin/devnull"
    printf '#!/bin/sh\nexec "%s" "$@"\n' "$(command -v "$python")" >"$home/bin/python"
    chmod 755 "$home/bin/devnull" "$home/bin/python"
    folder=$(cd "$home/tree" && "$python" -c 'from devnull.sandbox.image.recipe import rootfs_folder; print(rootfs_folder())')
    mv "$home/rootfs" "$folder"
    touch "$home/unpacked"
fi

# Parts lie beside this folder, as DIR-1 and DIR-2, perhaps not at the same time.
for part in "$here"-[12]/*.whl.[12]; do
    if [ -f "$part" ]; then cp -u "$part" "$home/wheels/"; fi
done
for part in "$home"/wheels/*.whl.1; do
    wheel=${part%.1}
    if [ -f "$part" ] && [ -f "$wheel.2" ]; then cat "$part" "$wheel.2" >"$wheel" && rm "$part" "$wheel.2"; fi
done
case ${OUT:-/} in /*) ;; *) export OUT="$PWD/$OUT" ;; esac
cd "$home/tree"
"$@"
