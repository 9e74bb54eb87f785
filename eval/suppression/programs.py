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
PAGERS = {"head", "tail", "less", "more", "most"}
"""Filters that cut what they show by its length, not by what it says."""
SHELL_STRING_RUNNERS = {"script", "su", "runuser", "flock", "sg", "ssh", "watch", "parallel", "unbuffer", "strace"} | {
    "entr",
    "tmux",
    "screen",
    "systemd-run",
    "hyperfine",
    "eval",
    "trap",
    "alias",
    "osascript",
    "concurrently",
}
"""Programs that hand an argument in quotes to a shell."""
SHELL_STDIN_RUNNERS = SHELLS | {"ssh", "su", "runuser", "sg", "at", "batch", "parallel"}
"""Programs that run what they read from stdin as shell code, if they are given no other."""
DECODERS = {"base64", "base32", "xxd", "openssl", "uudecode", "gunzip", "zcat", "xzcat", "rev", "tr", "sed", "perl"}
"""Programs whose stdout may be code that we do not read."""
PYTHONS = re.compile(r"python[\d.]*$")
OTHER_INTERPRETERS = re.compile(r"(?:perl|ruby|node|php|lua|tclsh|expect|Rscript|deno|bun)[\d.]*$")
"""Interpreters whose code we do not take apart."""
MAY_HIDE = re.compile(
    r"STD(?:ERR|OUT)|std(?:err|out|io)|/dev/null|devnull|\b(?:eval|exec\w*|spawn\w*|system|popen|open|fork|qx|catch|rescue"
    r"|pcall|try|except|suppress|dup2?|log_user|silent\w*)\b|`|2>|@\w+\(|\$SIG|no warnings"
)
"""Words without which code of another language can hide nothing."""
AWKS = {"awk", "gawk", "mawk"}
UNREAD_CODE = re.compile(
    r"(?<![\w./-])(?:python[\d.]*|perl|ruby|node|php|lua|[gm]?awk|tclsh|expect|eval|source|base64|base32|xxd|openssl"
    r"|uudecode|sed|ed|ex|patch|g?cc|clang|go|rustc)(?![\w-])"
)
"""Words of a command that runs code which is not taken apart here, or makes some."""
SCRIPT_FILES = re.compile(
    r"(?:^|/)[^/.]*$|(?:^|/)\.[^/.]*$|\.(?:sh|bash|zsh|ksh|command|bashrc|profile|mk|service|run|cron)$"
)
"""Files that a shell, make, Docker or systemd may run: a script by its ending, or a name without one."""
DETACHERS = {"screen", "tmux", "at", "batch", "crontab", "systemd-run"}
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
    "coproc": "",
    "chronic": "",
    "unshare": "",
    "nsenter": "t",
    "eatmydata": "",
}
"""Programs that run another one, with the letters of their options that take an argument."""
PLACE_WRAPPERS = {"chroot", "flock"}
"""Wrappers whose first word is a place, not the program."""
