#!/bin/sh
# base.sh PACKAGES.txt: turns a bare Debian 12 into the box of the tasks. Root, with a network: the only step that
# needs one. Runs in a container (Dockerfile) and in a folder (mmdebstrap) alike, and must leave the same in both.
set -eu
export DEBIAN_FRONTEND=noninteractive LC_ALL=C

# What Debian's image for containers holds beyond a Debian (it changes what apt and dpkg do), and mmdebstrap's does not.
rm -f /etc/apt/apt.conf.d/docker-* /etc/dpkg/dpkg.cfg.d/docker*
cat >/etc/dpkg/dpkg.cfg.d/devnull <<'EOF'
# Documentation and translations are not read in a box; and a box that dies is thrown away, so nothing is synced.
path-exclude=/usr/share/doc/*
path-exclude=/usr/share/man/*
path-exclude=/usr/share/info/*
path-exclude=/usr/share/locale/*/LC_MESSAGES/*
path-exclude=/usr/share/lintian/*
force-unsafe-io
EOF
cat >/etc/apt/apt.conf.d/90devnull <<'EOF'
// Through apt's own pty, maintainer scripts' stderr would come out on apt's stdout, and 2>/dev/null would hide nothing.
Dpkg::Use-Pty "0";
// In a box of an ordinary user there is no other user to become.
APT::Sandbox::User "root";
APT::Install-Recommends "0";
APT::Install-Suggests "0";
Acquire::Languages "none";
EOF
# Nothing is started while packages are set up; in a box, things are.
printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d

if [ ! -e /etc/apt/sources.list ] && ! ls /etc/apt/sources.list.d/* >/dev/null 2>&1; then
    echo 'deb http://deb.debian.org/debian bookworm main' >/etc/apt/sources.list
fi
apt-get update
apt-get dist-upgrade -y
sed 's/#.*//' "$1" | xargs apt-get install -y --no-install-recommends
apt-get clean
rm /usr/sbin/policy-rc.d
# Some bases came with what dpkg leaves out above, some without.
find /usr/share/doc /usr/share/man /usr/share/info /usr/share/lintian /usr/share/locale/*/LC_MESSAGES ! -type d -delete || true

# Packages that ask questions take the default answer, in silence, whatever the terminal.
echo 'debconf debconf/frontend select Noninteractive' | debconf-set-selections

# From here on, nothing outside the box: apt and pip know only what a task lays down.
rm -rf /etc/apt/sources.list.d/* /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/debconf/*-old
mkdir -p /var/lib/apt/lists/partial /srv/repo /srv/wheels
echo 'deb [trusted=yes] file:/srv/repo ./' >/etc/apt/sources.list
: >/srv/repo/Packages
cat >/etc/pip.conf <<'EOF'
[global]
no-index = true
find-links = /srv/wheels /usr/share/python-wheels
disable-pip-version-check = true
root-user-action = ignore
EOF
python3 -m venv /opt/venv
/opt/venv/bin/pip install --quiet --no-index --find-links /usr/share/python-wheels setuptools wheel
# Python compiles anew what is of another time than when it was compiled, and an archive of mmdebstrap's holds no time
# later than its begin: these files get an older one first, like those of Debian's packages.
find /opt/venv -exec touch --no-dereference --date=@1700000000 {} +
python3 -m compileall -q -f --invalidation-mode timestamp /opt/venv/lib
rm -rf /root/.cache /var/log/*.log /var/log/apt/* /var/cache/ldconfig/aux-cache
