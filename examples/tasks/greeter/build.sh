#!/bin/sh
# build.sh DEST: writes DEST/greeter/{ok,faulty}/srv/greeter-1.0.tar.gz and what a sound installation leaves.
set -eu
for build in ok faulty; do
    tree=$(mktemp -d)
    mkdir -p "$tree/greeter-1.0" "$1/greeter/$build/srv"
    printf '#!/bin/sh\necho "Hello, $1."\n' >"$tree/greeter-1.0/greeter"
    if [ $build = ok ]; then tool=true; else tool=gresource; fi
    printf 'install:\n\t%s greeter\n\tinstall -D -m 755 greeter /usr/local/bin/greeter\n\t@echo "greeter 1.0 installed."\n' \
        $tool >"$tree/greeter-1.0/Makefile"
    tar --sort=name --mtime=@0 --owner=0 --group=0 -C "$tree" -cf - greeter-1.0 |
        gzip -n >"$1/greeter/$build/srv/greeter-1.0.tar.gz"
    mkdir -p "$1/greeter/shipped/greeter/usr/local/bin"
    cp "$tree/greeter-1.0/greeter" "$1/greeter/shipped/greeter/usr/local/bin/greeter"
    rm -rf "$tree"
done
