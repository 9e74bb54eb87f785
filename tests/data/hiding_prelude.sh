# Programs for the labelled commands. Each does one thing that an installer may do. `curl` and `wget` are stand-ins with
# the real ones' flags and messages, for images that hold neither.
mkdir -p /opt/t/bin /opt/t/src
cd /opt/t/bin
program() { { echo '#!/bin/bash'; cat; } > "/opt/t/bin/$1"; chmod +x "/opt/t/bin/$1"; }

program ok <<'END'
echo "done"
END
program fail <<'END'
echo "fail: cannot install the driver" >&2
exit 3
END
program fail2 <<'END'
echo "fail2: cannot install the toolkit" >&2
exit 3
END
program out <<'END'
echo "out: error: the driver was not installed"
exit 4
END
program many <<'END'
for i in $(seq 20); do echo "step $i"; done
echo "many: cannot link" >&2
exit 5
END
# More than a pipe holds: whoever reads its first lines only is gone, on any machine, before it comes to its error.
program flood <<'END'
for i in $(seq 20); do printf 'step %8000d\n' "$i"; done
echo "flood: cannot link" >&2
exit 5
END
program errfirst <<'END'
echo "errfirst: cannot download" >&2
for i in $(seq 5); do echo "step $i"; done
exit 5
END
program warn <<'END'
echo "warning: this version is old" >&2
END
program chat <<'END'
echo "reading the index" >&2
echo "done"
END
program lie <<'END'
echo "ERROR: the resolver found a conflict" >&2
END
program mute <<'END'
exit 6
END
program selfhide <<'END'
ls /nonexistent 2>/dev/null
echo "finished"
exit 1
END
program hushable <<'END'
[ "$1" = --quiet ] || echo "hushable: cannot reach the server" >&2
exit 7
END
program inst.run <<'END'
echo "ERROR: the toolkit was not installed" >&2
exit 1
END
program sudo_like <<'END'
"$@"
END
program flip <<'END'
if [ -e /dev/shm/flip ]; then echo "flip: cannot install" >&2; exit 1; fi
END
program curl <<'END'
silent= show= url=
for word in "$@"; do
  case "$word" in
    --silent) silent=1 ;;
    --show-error) show=1 ;;
    --*) ;;
    -*) case "$word" in *s*) silent=1 ;; esac; case "$word" in *S*) show=1 ;; esac ;;
    file://*) cat "${word#file://}"; exit 0 ;;
    http*) url=$word ;;
  esac
done
if [ -z "$silent" ] || [ -n "$show" ]; then
  echo "curl: (7) Failed to connect to 127.0.0.1 port 9 after 0 ms: Couldn't connect to server" >&2
fi
exit 7
END
program wget <<'END'
for word in "$@"; do case "$word" in -q*|--quiet) exit 4 ;; esac; done
echo "failed: Connection refused." >&2
exit 4
END

printf 'int main(void) { return undeclared; }\n' > /opt/t/src/bad.c
printf 'bad:\n\tgcc bad.c -o /tmp/bad\nhush:\n\t@ls /nonexistent 2>/dev/null || true\n\t@echo finished\n' > /opt/t/src/Makefile
echo "0000000000000000000000000000000000000000000000000000000000000000  /etc/hostname" > /opt/t/sums
echo "a list of errors: cannot install, failed" > /opt/t/errors.txt
echo "fail 2>/dev/null" | base64 > /opt/t/code.b64
export PATH="/opt/t/bin:$PATH"
mkdir -p /root/work && cd /root/work
