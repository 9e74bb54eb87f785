"""What programs of the shell do with output and with code: filters, writers, shells, wrappers, decoders."""

import re

VISIBLE_TARGETS = {
    "/dev/stdout",
    "/dev/stderr",
    "/dev/tty",
    "/dev/fd/1",
    "/dev/fd/2",
    "/proc/self/fd/1",
    "/proc/self/fd/2",
}
"""Destinations that still reach a reader of the terminal."""
FILTERS = re.compile(
    r"tail|head|[efz]?grep|rg|ag|ack|sed|[gm]?awk|perl|cut|tr|wc|uniq|comm|paste|column|fold|fmt|rev|shuf|c?split|dd|jq"
    r"|sponge|xxd|od|hexdump|base64|md5sum|sha\d+sum|cksum|true|:|logger|read|mapfile|readarray|nc|mail"
)
"""Programs at the end of a pipe that may drop lines."""
WRITERS = {"echo", "printf", "cat", "tee"}
"""Programs whose stdout is data for a file, not a report of what they did."""
SHELLS = {"bash", "sh", "dash", "ash", "zsh", "ksh"}
SHELL_STRING_RUNNERS = {"script", "su", "runuser", "flock", "sg", "ssh", "watch", "parallel", "unbuffer", "strace"}
"""Programs that hand an argument in quotes to a shell."""
DECODERS = {"base64", "base32", "xxd", "openssl", "uudecode", "gunzip", "zcat", "xzcat", "rev", "tr", "sed", "perl"}
"""Programs whose stdout may be code that we do not read."""
PYTHONS = re.compile(r"python[\d.]*$")
OPAQUE_INTERPRETERS: dict[str, str] = {
    "perl": "-e",
    "ruby": "-e",
    "node": "-e",
    "php": "-r",
    "lua": "-e",
    "tclsh": "",
    "expect": "-c",
}
"""Interpreters whose code we do not read, with the flag that hands it to them (none: any use of theirs)."""
AWKS = {"awk", "gawk", "mawk"}
UNREAD_CODE = re.compile(
    r"(?<![\w./-])(?:python[\d.]*|perl|ruby|node|php|lua|[gm]?awk|tclsh|expect|eval|source|base64|base32|xxd|openssl"
    r"|uudecode|sed|ed|ex|patch|g?cc|clang|go|rustc)(?![\w-])"
)
"""Words of a command that runs code which is not taken apart here, or makes some."""
DATA_FILES = re.compile(
    r"\.(?:c|h|cpp|json|ya?ml|toml|cfg|ini|txt|md|html|list|conf|gz|xz|tar|tgz|deb|log|csv|pem|key)$"
)
"""Files that no shell runs."""
DETACHERS = {"screen", "tmux", "at", "batch", "crontab", "systemd-run", "coproc"}
"""Programs that leave a job behind."""
WRAPPERS = {
    "sudo": "CDghpRrTtUu",
    "doas": "Cu",
    "env": "CSu",
    "nice": "n",
    "ionice": "cnpPu",
    "time": "fo",
    "timeout": "ks",
    "stdbuf": "eio",
    "xargs": "adEILnPs",
    "command": "",
    "builtin": "",
    "exec": "a",
    "nohup": "",
    "setsid": "",
    "fakeroot": "bils",
    "unbuffer": "",
    "busybox": "",
    "chroot": "",
    "flock": "Ew",
    "strace": "eop",
    "parallel": "aEIjN",
}
"""Programs that run another one, with the letters of their options that take an argument."""
PLACE_WRAPPERS = {"chroot", "flock"}
"""Wrappers whose first word is a place, not the program."""
