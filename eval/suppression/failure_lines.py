"""Lines of a terminal by which a program says that it failed, for commands without a status that can be trusted.

The words alone ("error", "failed") are right once in four times: files that are shown, matches of a search and counts
of zero hold them too. What counts here is the form that a tool gives its own failure.
"""

import re

from tree_sitter import Node

from devnull.eval.suppression.shell_syntax import command_name, parse_shell

_TOOL = r"(?:[\w./+-]{1,60}(?:\[\d+\])?:\s){1,3}"
"""The name, and perhaps the file or line, by which a program begins its messages."""
_SAYS_FAILED = re.compile(
    rf"""
      ^{_TOOL}(?:line\s\d+:\s)?(?:.{{0,80}}:\s)?(?:command\snot\sfound|No\ssuch\sfile\sor\sdirectory|Permission\sdenied
        |Is\sa\sdirectory|Not\sa\sdirectory|Read-only\sfile\ssystem|No\sspace\sleft\son\sdevice|Connection\srefused
        |Operation\snot\spermitted|cannot\sexecute|Exec\sformat\serror|Device\sor\sresource\sbusy|File\sexists)\b
    | ^{_TOOL}(?:fatal\s)?(?:error|ERROR|Error|fatal|FATAL|failed|failure|cannot|can't|could\snot|unable\sto|invalid\s
        |unrecognized\s|unknown\s|illegal\s|missing\s|no\ssuch\s|no\srule|bad\s|\*\*\*)
    | ^[\w./+-]{{1,200}}:\d+(?::\d+)?:\s(?:fatal\s)?error\b
    | ^(?:E|ERROR|Error|error|fatal|FATAL|Fatal|CRITICAL|panic)(?:\[\w+\])?:\s\S
    | ^(?:[A-Z]\w{{0,30}}\s)?(?:ERROR|FATAL|CRITICAL)\b(?!\s?[=:]?\s?0) | ^Error\s(?:in|while|during|at)\b
    | :\s(?:FAILED|unsupported\s.{{0,80}})$ | (?:^|;\s|--)(?:aborted|compilation\saborted|nothing\swas\sinstalled)\b
    | ^npm\s(?:ERR!|error)
    | ^CMake\sError | ^Configuring\sincomplete,\serrors\soccurred | ^Errors\swere\sencountered
    | ^Traceback\s\(most\srecent\scall\slast\):
    | ^[A-Z]\w{{0,60}}(?:Error|Exception|Interrupt)(?::\s|$)
    | ^(?:FAILED|ERROR)\s\S+::
    | ^={{2,80}}\s.{{0,80}}\b[1-9]\d*\s(?:failed|errors?)\b
    | ^(?:Tests?|Test\sSuites|Suites|test\sresult):?\s.{{0,40}}\b[1-9]\d*\sfailed\b
    | ^[1-9]\d*\s(?:tests?\s)?(?:failed|failing)\b
    | ^FAILED\s\(\w+=[1-9] | ^FAIL\b | ^---\sFAIL: | ^test\sresult:\sFAILED | ^not\sok\s\d
    | ^(?:Segmentation\sfault|Bus\serror|Illegal\sinstruction|Aborted|Killed|Terminated)\b
    | \(core\sdumped\)\s*$
    | ^(?:Failed|failed|Unable|Cannot|Could\snot|Couldn't|Can't)\s(?:to\s)?[a-z]
    | \b(?:could\snot\scompile|[Bb]uild\sfailed|BUILD\sFAIL(?:ED|URE)|[Cc]ompilation\s(?:failed|terminated))\b
    | \b(?:exited\swith|returned|exit)\s(?:a\s)?(?:non-?zero|(?:exit\s)?(?:code|status)\s?:?\s?-?[1-9])
    | ^\w[\w\s-]{{0,40}}\b(?:installation|build|compilation|setup|install)\sfailed\b
    """,
    re.VERBOSE,
)
_SHOWS_FILES = set(
    """cat less more head tail nl tac bat sed awk grep egrep fgrep zgrep rg ag ack find fd ls tree git hg diff cmp comm
    strings xxd od hexdump jq yq man help info zcat journalctl dmesg history echo printf wc sort uniq cut column
    view""".split()  # noqa: SIM905
)
"""Programs whose output is the content of files and histories, or the agent's own words."""
_SUSPECT = re.compile(
    r"error|fail|not found|no such|denied|is a dir|not a dir|read-only|no space|refused|permitted|cannot|can't"
    r"|could|unable|invalid|unrecognized|unknown|illegal|missing|no rule|bad |\*\*\*|^E: |fatal"
    r"|critical|panic|traceback"
    r"|exception|interrupt|not ok|fault|aborted|killed|terminated|core dumped|unsupported|nothing was|exec|busy"
    r"|exists|exit|returned",
    re.IGNORECASE | re.MULTILINE,
)
"""Without one of these a line is not looked at."""
_LONGEST_LINE, _MOST_LINES = 400, 4000


def find_failure_lines(screen: str) -> list[str]:
    """The lines of a terminal's text in which a program reports its own failure, of the last few thousand suspects."""
    lines: dict[int, str] = {}
    for match in _SUSPECT.finditer(screen):
        begin = screen.rfind("\n", max(0, match.start() - _LONGEST_LINE), match.start()) + 1
        if begin not in lines:
            lines[begin] = screen[begin : begin + _LONGEST_LINE].partition("\n")[0].strip().lstrip("│|> ")
    return [line for line in [*lines.values()][-_MOST_LINES:] if _SAYS_FAILED.search(line)]


def output_shows_failure(command: str, screen: str) -> bool:
    """Whether the terminal's text proves that a command failed, whatever its recorded status.

    A status of 0 proves little behind `| tail` or `; true`. Where every program of the command only shows files or
    histories, what it shows is theirs: then only the shell's and the programs' own complaints count.
    """
    lines = find_failure_lines(screen)
    if not lines:
        return False
    names = _program_names(parse_shell(command.encode("utf-8", "replace")))
    if names and names <= _SHOWS_FILES:
        return any(line.split(":")[0].rsplit("/", 1)[-1] in {*names, "bash", "sh", "/bin/sh"} for line in lines)
    return True


def status_shows_failure(command: str, status: int | None) -> bool:
    """Whether a recorded exit status says that the command failed.

    1 says "no" and not "failed" where the last program only asks (`grep`, `diff`, `test`); 130 and 141 are a key of
    the user and a pipe that was closed early; a negative status is none.

    >>> [status_shows_failure("grep -c error log", 1), status_shows_failure("make", 1)]
    [False, True]
    """
    if status is None or status <= 0 or status in (130, 141):
        return False
    if status > 1:
        return True
    root = parse_shell(command.encode("utf-8", "replace"))
    if root.named_children and root.named_children[-1].type == "test_command":
        return False
    last = ""
    nodes = [root]
    while nodes:
        node = nodes.pop()
        if node.type == "command":
            last = command_name(node)
            break
        nodes += node.children
    return last not in _ASKS


_ASKS = set("grep egrep fgrep zgrep rg ag ack diff cmp comm test [ [[ which type pgrep pidof false expr".split())  # noqa: SIM905
"""Programs whose status of 1 is an answer."""


def _program_names(root: Node) -> set[str]:
    """Base names of all programs that a command names, wrappers left aside."""
    names, nodes = set(), [root]
    while nodes:
        node = nodes.pop()
        names.add(command_name(node) if node.type == "command" else "")
        nodes += node.children
    return names - {"", "cd", "set", "export", "true", ":"}
