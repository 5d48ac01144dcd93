#!/usr/bin/env python3
"""lint.py - the rules of this repository that no compiler checks (make lint).

Prints a line FILE:LINE: MESSAGE for each breach; last, "N passed, N failed", counting a rule in a
file, or a program that is to compile, as one.
"""
import os
import re
import shutil
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from glob import glob

os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
OUT = "build/lint"

# What tells one system from another. It belongs in the sections with these tags (or these and a
# suffix, as linux-wait) only.
SYSTEM_MACRO = re.compile(
    r"\b(_WIN32|_WIN64|WIN32|_MSC_VER|__CYGWIN__|__MINGW32__|__linux__|__linux|linux|__gnu_linux__"
    r"|__ANDROID__|__APPLE__|__MACH__|__unix__|__unix|unix|__FreeBSD__|__NetBSD__|__OpenBSD__"
    r"|__DragonFly__|__sun|__HAIKU__|__EMSCRIPTEN__|__wasm__|__GLIBC__|__BIONIC__)\b"
)
PLATFORM_TAGS = {"linux", "posix", "windows", "macos", "custom", "config", "contract"}
SECTION = re.compile(r"^/\* ---- >>([a-z0-9-]+)(?::.*)? ---- \*/$")
MAX_FUNCTION = 60  # lines; more is an error
MEDIAN, P95 = 10, 40  # lines; more is worth a warning

passed = failed = 0


def result(breaches):
    """Counts one check and prints what it found: (file, line, message) each."""
    global passed, failed
    for file, line, message in breaches:
        print(f"{file}:{line}: {message}")
    if breaches:
        failed += 1
    else:
        passed += 1


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def blank(match):
    """What a comment or literal is replaced with: blanks, so that lines and columns stay."""
    return re.sub(r"[^\n]", " ", match.group(0))


def code_of(text):
    """The text without comments, string literals and character literals."""
    pattern = r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\''
    return re.sub(pattern, blank, text, flags=re.S)


def without_directives(code):
    """The code without preprocessor lines, their continuations included."""
    return re.sub(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", blank, code, flags=re.M)


def line_at(text, at):
    return text.count("\n", 0, at) + 1


def top_level(code):
    """The declarations and definitions outside all braces: (head, first line, last line, kind).

    `kind` is "function" for a definition with a body, "declaration" for what ends in a semicolon.
    Braces of namespaces and of extern "C" do not count.
    """
    found, depth, start, head, transparent = [], 0, 0, "", 0
    for match in re.finditer(r"[{};]", code):
        at, what = match.start(), match.group(0)
        if what == "{":
            if depth == 0:
                head = code[start:at].strip()
                if re.fullmatch(r"(inline\s+)?namespace(\s+\w+)?|extern", head):
                    transparent, start = transparent + 1, at + 1
                    continue
                whole = code[start:at]
                first = line_at(code, start + len(MACRO_CALLS.match(whole).group(0)))
            depth += 1
        elif what == "}":
            if depth == 0:
                if transparent:
                    transparent, start = transparent - 1, at + 1
                continue
            depth -= 1
            if depth == 0 and head.endswith(")"):
                found.append((head, first, line_at(code, at), "function"))
                start = at + 1
        elif depth == 0:
            text = code[start:at]
            if text.strip():
                first = line_at(code, start + len(text) - len(text.lstrip()))
                found.append((text.strip(), first, line_at(code, at), "declaration"))
            start = at + 1
    return found, depth


# What stands before a function: calls of macros that make functions of their own.
MACRO_CALLS = re.compile(
    r"\s*(?:[A-Z][A-Z_]*\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)\s*(?=[A-Za-z]))*")


def check_function_lengths(path):
    functions, depth = top_level(without_directives(code_of(read(path))))
    lengths = []
    breaches = [] if depth == 0 else [(path, 1, "the braces do not match (both sides of an #if?)")]
    for head, first, last, kind in functions:
        if kind != "function":
            continue
        length = last - first + 1
        lengths.append(length)
        if length > MAX_FUNCTION:
            name = re.sub(r"\s+", " ", head)[:60]
            breaches.append((path, first, f"{length} lines, {MAX_FUNCTION} at most: {name}"))
    result(breaches)
    return lengths


def print_length_figures(path, lengths):
    if len(lengths) < 2:
        return
    median = statistics.median(lengths)
    p95 = sorted(lengths)[int(len(lengths) * 0.95)]
    warning = ", more than planned" if median > MEDIAN or p95 > P95 else ""
    print(
        f"{path}: {read(path).count(chr(10))} lines, {len(lengths)} functions; length: "
        f"median {median:g}, 95 % {p95}, longest {max(lengths)}{warning}"
    )


def sections(path):
    """The sections of a header: (tag, line)."""
    found = []
    for number, line in enumerate(read(path).split("\n"), 1):
        match = SECTION.match(line)
        if match:
            found.append((match.group(1), number))
    return found


def check_system_macros(path):
    tags = dict((number, tag) for tag, number in sections(path))
    breaches, tag = [], "the top"
    for number, line in enumerate(code_of(read(path)).split("\n"), 1):
        tag = tags.get(number, tag)
        for match in SYSTEM_MACRO.finditer(line):
            if tag.split("-")[0] not in PLATFORM_TAGS:
                message = f"{match.group(0)} in >>{tag}: systems belong in a platform section"
                breaches.append((path, number, message))
    result(breaches)


def check_section_tags(path):
    text = read(path)
    contents = re.search(r"^\s*CONTENTS\b.*?(?=^\s*[A-Z]{4,}|\*/)", text, re.S | re.M)
    if not contents:
        result([(path, 1, "no CONTENTS in the top comment")])
        return
    at = line_at(text, contents.start())
    listed = set(re.findall(r">>([a-z0-9-]+)", contents.group(0)))
    present = sections(path)
    breaches = [(path, at, f"CONTENTS lists >>{tag}, but there is no such section")
                for tag in sorted(listed - {tag for tag, _ in present})]
    breaches += [(path, line, f"section >>{tag} is not listed in CONTENTS")
                 for tag, line in present if tag not in listed]
    for number, line in enumerate(text.split("\n"), 1):
        if re.match(r"^\s*/\* -+ *>>", line) and not SECTION.match(line):
            breaches.append((path, number, "not of the form /* ---- >>tag: title ---- */"))
    result(breaches)


def check_documentation(path):
    """A comment stands above each public function, or above the declarations it stands with."""
    text = read(path)
    end = re.search(r"^#\s*endif\s*/\* MTASK(_[A-Z]+)?_H \*/", text, re.M)
    lines = text.split("\n")
    code = without_directives(code_of(text[: end.start()] if end else text))
    found, _ = top_level(code)
    starts = {first for _, first, _, _ in found}
    ends = {last: first for _, first, last, _ in found}
    breaches = []
    for head, first, _, _ in found:
        name = re.search(r"\b(mtask_(?!_)\w+)\s*\(", head)
        if not name or head.startswith("typedef") or re.search(r"=", head):
            continue
        above = first - 1
        while above in ends and ends[above] in starts:
            above = ends[above] - 1
        if above < 1 or not lines[above - 1].rstrip().endswith("*/"):
            breaches.append((path, first, f"{name.group(1)} has no comment above it"))
    result(breaches)


def check_marks(path):
    breaches = []
    for number, line in enumerate(read(path).split("\n"), 1):
        for mark in re.findall(r"\b(TODO|FIXME|XXX)\b", line):
            breaches.append((path, number, f"{mark}: do it, or open an issue for it"))
    result(breaches)


def newest_version():
    match = re.search(r"^## (\d+\.\d+\.\d+)", read("CHANGELOG.md"), re.M)
    return match.group(1) if match else "nothing"


def check_version(path):
    text, newest, breaches = read(path), newest_version(), []
    title = re.match(r"/\* (\S+) (\S+) - ", text)
    if not title or title.group(1) != path:
        breaches.append((path, 1, f"the first line should begin: /* {path} {newest} - "))
    elif title.group(2) != newest:
        breaches.append((path, 1, f"{title.group(2)}, but CHANGELOG.md's newest is {newest}"))
    for match in re.finditer(r"^#\s*define MTASK_VERSION_(\w+)\s+(\S+)", text, re.M):
        part, value = match.group(1), match.group(2).strip('"')
        parts = dict(zip(("MAJOR", "MINOR", "PATCH"), newest.split(".")), STRING=newest)
        if parts.get(part, value) != value:
            line = line_at(text, match.start())
            breaches.append((path, line, f"{value}, but CHANGELOG.md's newest is {newest}"))
    result(breaches)


def check_impl_lists(headers):
    text = read("tests/mtask_impl.c")
    result([("tests/mtask_impl.c", 1, f"{header} is not included")
            for header in headers if f'include "../{header}"' not in text])


def run(command, cwd="."):
    """Runs a shell command: (exit code, what it printed)."""
    done = subprocess.run(["bash", "-c", command], cwd=cwd, stdin=subprocess.DEVNULL, timeout=300,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.returncode, done.stdout.strip()


def cc_line(first_line):
    """The compile command in a file's first line, a comment; None if it holds none."""
    line = re.sub(r"^\s*(//|/\*)\s*|\s*\*/\s*$", "", first_line)
    match = re.search(r"(^|&& )(cc|c\+\+) .*", line)
    return match.group(0)[len(match.group(1)):] if match else None


def compile_file(path):
    """What is wrong with a file's own cc line, which makes nothing here if it optimises: tests/examples.sh does that."""
    command = cc_line(read(path).split("\n", 1)[0])
    if command is None:
        return [(path, 1, "the first line is not its cc command")]
    product = f"{OUT}/{os.path.splitext(path)[0].replace('/', '-')}"
    command = re.sub(r" -o \S+", "", command).replace(" -O2", " -fsyntax-only") + f" -o {product}"
    status, output = run(command)
    return [] if status == 0 else [(path, 1, f"its cc line fails: {command}\n{output}")]


def try_snippet(origin, line, command, text):
    """What is wrong with a program of the documentation: it is compiled in a directory that holds
    the headers beside it, and run."""
    source = re.search(r"\S+\.c(pp)?\b", command or "")
    if not source:
        return [(origin, line, "the program's first line is not its cc command")]
    directory = f"{OUT}/{os.path.basename(origin)}-{line}"
    os.makedirs(directory, exist_ok=True)
    for header in glob("mtask*.h"):
        shutil.copy(header, directory)
    with open(f"{directory}/{source.group(0)}", "w", encoding="utf-8") as file:
        file.write(text)
    status, output = run(re.sub(r" -o \S+", "", command) + " -o snippet && timeout 20 ./snippet",
                         directory)
    return [] if status == 0 else [(origin, line, f"fails: {command}\n{output}")]


def readme_snippets():
    text = read("README.md")
    for match in re.finditer(r"^```c\n(.*?)^```", text, re.S | re.M):
        body = match.group(1)
        if re.search(r"\bmain\(", body):
            yield ("README.md", line_at(text, match.start()), cc_line(body.split("\n", 1)[0]), body)


def header_snippet(path):
    """The program in the top comment, below "EXAMPLE (cc ...)"."""
    text = read(path)
    match = re.search(r"^ *EXAMPLE \((.*?)\)\n(.*?)(?=^   [A-Z])", text, re.S | re.M)
    if match:
        yield (path, line_at(text, match.start()), match.group(1), match.group(2))


def check_programs(headers):
    """All examples, and all programs in the documentation, by their own cc lines."""
    snippets = list(readme_snippets())
    for header in headers:
        snippets += header_snippet(header)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for breaches in pool.map(compile_file, sorted(glob("examples/*.c"))):
            result(breaches)
        for breaches in pool.map(lambda snippet: try_snippet(*snippet), snippets):
            result(breaches)
    if not list(readme_snippets()):
        result([("README.md", 1, "it shows no program")])


def check_platform():
    """The check script that compiles for a system without an operating system."""
    global passed, failed
    status, output = run("tests/config_platform.sh")
    counts = re.search(r"(\d+) passed, (\d+) failed$", output)
    if status == 0 and counts:
        passed += int(counts.group(1))
    else:
        print(output)
        failed += max(1, int(counts.group(2)) if counts else 1)


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    os.makedirs(OUT)
    headers = sorted(glob("mtask*.h"))
    for header in headers:
        for check in (check_system_macros, check_section_tags, check_documentation, check_marks,
                      check_version):
            check(header)
        print_length_figures(header, check_function_lengths(header))
    for pattern in ("examples/*.[ch]", "tests/*.[ch]", "tests/*.cpp", "tests/bench/*.[ch]"):
        for path in sorted(glob(pattern)):
            check_function_lengths(path)
    check_impl_lists(headers)
    check_programs(headers)
    check_platform()
    print(f"{passed} passed, {failed} failed")
    return 0 if failed == 0 and passed > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
