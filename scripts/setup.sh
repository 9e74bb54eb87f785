#!/usr/bin/env bash
# Set-up, in three parts, each idempotent and each saying what it does:
#   setup.sh python VENV SPEC   virtual environment and pinned dependencies
#   setup.sh image              a way to make boxes (Docker, or mmdebstrap for the rootless runtime) and the task image
#   setup.sh test               the same for both runtimes, and what only tests need (a browser, a cross compiler)
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
debian() { [ -x /usr/bin/apt-get ]; }
docker_answers() { command -v docker >/dev/null && docker info >/dev/null 2>&1; }

# Installs Debian packages as root; otherwise names the one command and goes on (optional) or stops.
packages() {
    local need=$1; shift
    local missing=()
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return 0
    local command="apt-get install -y --no-install-recommends ${missing[*]}"
    if debian && [ "$(id -u)" = 0 ]; then
        say "installing ${missing[*]}"
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
    elif [ "$need" = required ]; then
        die "this needs ${missing[*]}; run: sudo $command"
    else
        say "without ${missing[*]} some tests are skipped; to have them: sudo $command"
        return 1
    fi
}

python_part() {
    local venv=$1 spec=$2 python=${PYTHON:-python3}
    "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' ||
        die "$python is $("$python" -V 2>&1); Python 3.11, 3.12 or 3.13 is needed: make PYTHON=/path/to/python3.11 ..."
    if [ ! -x "$venv/bin/pip" ]; then
        "$python" -c 'import ensurepip' 2>/dev/null || packages required python3-venv
        say "making $venv"
        "$python" -m venv "$venv"
    fi
    say "installing $spec with the versions of constraints.txt"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -c constraints.txt -e "$spec"
}

# Starts a daemon where one can run: not beside another that DOCKER_HOST names, not without root's privileges.
start_docker() {
    docker_answers && return 0
    [ -z "${DOCKER_HOST:-}" ] && [ "$(id -u)" = 0 ] && command -v dockerd >/dev/null || return 1
    unshare --mount --net true 2>/dev/null || return 1
    say "starting the Docker daemon"
    if [ -d /run/systemd/system ]; then systemctl start docker; else service docker start; fi >/dev/null 2>&1 || return 1
    for _ in $(seq 50); do docker_answers && return 0; read -rt 0.2 <> <(:) || true; done
    return 1
}

# What makes the boxes' files where no daemon answers; an ordinary user needs ids for the other users in there.
without_docker=(mmdebstrap gpg debian-archive-keyring)
[ "$(id -u)" = 0 ] || without_docker+=(uidmap)
has_ids() {
    local user
    user=$(id -un)
    [ "$(id -u)" = 0 ] || grep -q "^$user:" /etc/subuid && return 0
    say "$user has no subordinate ids; run: sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $user"
    return 1
}

image_part() {
    docker_answers || { packages required "${without_docker[@]}" && has_ids; }
    .venv/bin/devnull image build
}

test_part() {
    packages optional docker.io iptables "${without_docker[@]}" chromium gcc libc6-dev make util-linux gcc-aarch64-linux-gnu libc6-dev-arm64-cross || true
    # axe-core alone, which this package holds; what drives browsers with it is not needed
    [ -d .cache/axe ] || .venv/bin/pip install --quiet --disable-pip-version-check --no-deps --target .cache/axe \
        axe-playwright-python==0.1.8 || say "without axe-core (axe-playwright-python) its test is skipped"
    start_docker || say "no Docker daemon answers, and none can be started here; tests that need one are skipped"
    if docker_answers || { command -v mmdebstrap >/dev/null && has_ids; }; then
        .venv/bin/devnull image build && .venv/bin/devnull image export >/dev/null && return 0
    fi
    say "there are no boxes here; tests that need one are skipped"
}

case ${1:-} in
    python) python_part "$2" "$3" ;;
    image) image_part ;;
    test) test_part ;;
    *) die "usage: setup.sh python VENV SPEC | image | test" ;;
esac
