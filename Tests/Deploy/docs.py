"""Holds what is written against what is there. Each check prints what is wrong, a line each, and fails when there is any.

    docs.py links                  every relative link and anchor of README.md, docs/ and the READMEs of what ships
    docs.py names SIDECAR          every `sidecar ... --option` and SIDECAR_ variable named there and in what ships
    docs.py scripts WORKFLOW DIR   writes each `run:` of a workflow into DIR, for shellcheck
    docs.py secrets FILE...        what looks like a credential
    docs.py block FILE [LANGUAGE]  prints the first block of a page in that language, by default ```sh
    docs.py indented FILE WORD     prints the first indented block of a page that begins with the word
"""

import pathlib
import re
import subprocess
import sys

root = pathlib.Path(__file__).resolve().parent.parent.parent
what, *arguments = sys.argv[1:]
problems = []


def tracked(*patterns):
    listed = subprocess.run(
        ["git", "-C", root, "ls-files", "--cached", "--others", "--exclude-standard", *patterns],
        check=True, capture_output=True, text=True)
    return [root / line for line in listed.stdout.splitlines() if (root / line).is_file()]


def anchors(page):
    """As a repository host makes them: small letters, blanks to hyphens, punctuation gone."""
    found, fenced = set(), False
    for line in page.read_text().splitlines():
        fenced ^= line.startswith("```")
        heading = re.match(r"#+ (.*)", line)
        if heading and not fenced:
            text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading.group(1)).replace("`", "")
            name = re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")
            number, each = 0, name
            while each in found:
                number += 1
                each = f"{name}-{number}"
            found.add(each)
    return found


def links():
    seen = 0
    for page in tracked("*.md"):
        text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
        # Indented blocks and code spans hold no links.
        text = "\n".join(line for line in text.splitlines() if not line.startswith("    "))
        for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", text)):
            if re.match(r"[a-z]+:", target):
                continue
            seen += 1
            path, _, anchor = target.partition("#")
            there = (page.parent / path).resolve() if path else page
            if not there.exists():
                problems.append(f"{page.relative_to(root)}: {target}: no such file")
            elif anchor and anchor not in anchors(there):
                problems.append(f"{page.relative_to(root)}: {target}: no such heading")
    if seen < 20:
        problems.append(f"only {seen} links found: the search is broken")


def names():
    def help_of(*command):
        return subprocess.run([arguments[0], *command, "--help"], capture_output=True, text=True).stdout

    commands = {"run": (), "lease": (), "lease history": (), "probe": (), "check": (), "migrate": (), "version": ()}
    options = {name: set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", help_of(*name.split()))) for name in commands}
    variables = set(re.findall(r"SIDECAR_[A-Z_]+", help_of("run"))) | set(
        re.findall(r"SIDECAR_[A-Z_]+", (root / "docs/configuration.md").read_text()))
    if len(variables) < 15 or len(options["run"]) < 15:
        problems.append("too few options found: the search is broken")
    pages = tracked("README.md", "docs/install", "packaging", "compose*", ".env.example", "helm", "Dockerfile")
    seen = 0
    for page in pages:
        if page.suffix in (".pyc", ".json"):
            continue
        place = page.relative_to(root)
        for number, line in enumerate(page.read_text().splitlines(), 1):
            for variable in re.findall(r"(?<![A-Z_$])SIDECAR_[A-Z_]+", line):
                seen += 1
                # SIDECAR_... and SIDECAR_* stand for all of them.
                if variable.endswith("_") or variable in variables:
                    continue
                problems.append(f"{place}:{number}: {variable} is no variable of sidecar")
            for name, rest in re.findall(
                    r"(?:^|[\s\"'`/(|])sidecar (run|lease history|lease|probe|check|migrate)\b([^`|]*)", line):
                for option in re.findall(r"(?<!\S)--[a-z][a-z-]*", rest.split(" -- ")[0]):
                    seen += 1
                    if option not in options[name]:
                        problems.append(f"{place}:{number}: sidecar {name} has no {option}")
    if seen < 15:
        problems.append(f"only {seen} names found: the search is broken")


def scripts():
    import yaml
    workflow, folder = arguments
    for job, content in yaml.safe_load(pathlib.Path(workflow).read_text())["jobs"].items():
        for number, step in enumerate(content["steps"]):
            if "run" in step:
                body = re.sub(r"\$\{\{.*?\}\}", "expression", step["run"])
                if body != step["run"]:
                    problems.append(f"{job}: step {number} puts an expression into its script: give it by env")
                named = "".join(f"export {name}\n" for name in step.get("env", {}))
                pathlib.Path(folder, f"{job}-{number}.sh").write_text(f"#!/usr/bin/env bash\nset -eo pipefail\n{named}{body}")


def secrets():
    shapes = r"gh[pousr]_[A-Za-z0-9]{20}|AKIA[0-9A-Z]{16}|-----BEGIN [A-Z ]*PRIVATE KEY|xox[bp]-|eyJ[A-Za-z0-9_-]{20}|glpat-|" \
        r"(?i:password|passwd|secret|token)\s*[:=]\s*[\"']?(?![\"']?\$|PASSWORD)[A-Za-z0-9+/_-]{8,}|://[^/\s:@]+:(?!PASSWORD|\$)[^@\s/]+@"
    for name in arguments:
        for number, line in enumerate(pathlib.Path(name).read_text().splitlines(), 1):
            if re.search(shapes, line):
                problems.append(f"{name}:{number}: {line.strip()}")
            # The host's own token for the job is not a secret that somebody put there.
            for secret in re.findall(r"secrets\.(\w+)", line):
                problems.append(f"{name}:{number}: asks for the secret {secret}")


def block():
    page, language = arguments[0], (arguments[1:] or ["sh"])[0]
    found = re.search(rf"^```{language}\n(.*?)^```", pathlib.Path(page).read_text(), re.S | re.M)
    if not found:
        sys.exit(f"{page} has no {language} block")
    print(found.group(1), end="")


def indented():
    page, word = arguments
    found = re.search(rf"(?:\A|\n\n)((?:    {word}\b.*\n)(?:    .*\n)*)", pathlib.Path(page).read_text())
    if not found:
        sys.exit(f"{page} has no indented block that begins with {word}")
    print(re.sub(r"^    ", "", found.group(1), flags=re.M), end="")


{"links": links, "names": names, "scripts": scripts, "secrets": secrets, "block": block,
 "indented": indented}[what]()
print("\n".join(problems))
sys.exit(bool(problems))
