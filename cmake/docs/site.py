"""./dev docs: the site of README.md, docs/, the examples and the docstrings, in build/docs/site; readable from disk and without a network
(its search wants a server).

    site.py ROOT OUT LIBCLANG RESOURCES

Fails when a link leads nowhere, when a public name has no docstring, or when mkdocs warns. Ends with totals.
"""
import html.parser
import json
import os
import posixpath
import re
import shutil
import subprocess
import sys
from pathlib import Path

import api

LAYERS = {  # folder: heading, in the order of the structure
    "": "Entry headers", "view": "Views", "executor": "Executors", "kernels": "Kernels", "adapters": "Adapters", "routing": "Routing", "io": "Files",
}
wrong = []


def site_path(path):
    """Where a file of the repository stands on the site, or None."""
    if path == "README.md":
        return "index.md"
    if re.fullmatch(r"[A-Z]+\.md", path):
        return path.lower()
    if path.startswith("docs/") and path.endswith((".md", ".svg")):
        return path[len("docs/"):]
    if re.fullmatch(r"examples/\w+\.(cpp|cu|c)", path):
        return str(Path(path).with_suffix(".md"))
    return None


def relative(target, page):
    return posixpath.relpath(target, posixpath.dirname(page) or ".")


def outside_code(text, change):
    """`change` on what is not in blocks of code."""
    parts = re.split(r"(^```.*?^```$)", text, flags=re.S | re.M)
    return "".join(part if part.startswith("```") else change(part) for part in parts)


def converted(root, path, headers):
    """A page of the repository as one of the site: links lead to pages, names of headers too."""
    page = site_path(path)
    folder = posixpath.dirname(path)

    def link(match):
        text, target, anchor = match[1], match[2], match[3] or ""
        if re.match(r"[a-z]+:", target):
            return match[0]
        if not target:
            return match[0]
        there = posixpath.normpath(posixpath.join(folder, target))
        place = site_path(there)
        if not place or not (root / there).is_file():
            wrong.append(f"{path}: {target} is no page")
            return match[0]
        return f"[{text}]({relative(place, page)}{anchor})"

    def header(match):
        name = match[1]
        for candidate in (name, "graft/" + name):
            if candidate in headers:
                return f"[`{name}`]({relative('api/' + candidate[: -len('hpp')] + 'md', page)})"
        return match[0]

    def change(text):
        text = re.sub(r"\[([^]]+)\]\(([^)#\s]*)(#[^)]*)?\)", link, text)
        text = re.sub(r"(?<!\[)`([a-z_/]+\.hpp)`", header, text)
        # What GitHub understands and Python-Markdown does not: content of numbered items by three spaces, a list straight behind a
        # paragraph, pipes in code in tables.
        text = re.sub(r"^   (?=[^\s])", "    ", text, flags=re.M)
        text = re.sub(r"^((?!- |\d+\. |\|).*\S.*\n)(?=- |\d+\. )", r"\1\n", text, flags=re.M)
        return re.sub(r"^\|.*$", lambda row: re.sub(r"`[^`]*`", lambda code: code[0].replace("\\|", "|"), row[0]), text, flags=re.M)

    return outside_code((root / path).read_text(), change)


def title(text):
    return re.search(r"^# (.*)$", text, re.M)[1]


class Links(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.names, self.links, self.loaded = set(), [], []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if attributes.get("id"):
            self.names.add(attributes["id"])
        if tag == "a" and attributes.get("href"):
            self.links.append(attributes["href"])
        if tag in ("script", "img", "iframe") and attributes.get("src"):
            self.loaded.append(attributes["src"])
        if tag == "link" and attributes.get("rel") in ("stylesheet", "icon") and attributes.get("href"):
            self.loaded.append(attributes["href"])


def check_links(site):
    """Every link of the built pages that stays on the site; how many there are."""
    pages = {}
    for path in sorted(site.rglob("*.html")):
        parser = Links()
        parser.feed(path.read_text())
        pages[path.relative_to(site).as_posix()] = parser
    count = 0
    for name, page in pages.items():
        if name == "404.html":
            continue  # its links are absolute: they depend on where the site stands
        for link in page.links + page.loaded:
            if re.match(r"[a-z]+:", link):
                if link in page.loaded:
                    wrong.append(f"{name} loads {link}: the site must work without a network")
                continue
            count += 1
            target, _, anchor = link.partition("#")
            there = posixpath.normpath(posixpath.join(posixpath.dirname(name), target)) if target else name
            if (site / there).is_dir():
                there = posixpath.join(there, "index.html")
            if there not in pages:
                if not (site / there).is_file():
                    wrong.append(f"{name}: {link} leads nowhere")
            elif anchor and anchor not in pages[there].names and not anchor.startswith("__"):
                wrong.append(f"{name}: there is no {link}")
    return len(pages), count


def main():
    root, out, library, resources = (Path(a) for a in sys.argv[1:5])
    pages, site = out / "pages", out / "site"
    for folder in (pages, site):
        shutil.rmtree(folder, ignore_errors=True)

    def write(path, text):
        (pages / path).parent.mkdir(parents=True, exist_ok=True)
        (pages / path).write_text(text)

    # --- the API
    reader = api.Reader(root / "include", library, resources)
    names, sections = 0, {heading: [] for heading in LAYERS.values()}
    for header in reader.headers:
        text, count, bare = api.page(reader, header)
        wrong.extend(f"include/{header}:{e.first}: {e.name} has no docstring" for e in bare)
        names += count
        place = "api/" + header[: -len("hpp")] + "md"
        write(place, text)
        heading = LAYERS[header.split("/")[1] if header.count("/") > 1 else ""]
        sections[heading].append({header.removeprefix("graft/"): place})
    index = ["# API\n", "Every public name with its docstring, by header. What a call computes, its shapes, aliasing, precision, "
             "determinism, cost and errors stand with it. Names are in namespace `graft`.\n"]
    for heading, entries in sections.items():
        index.append(f"## {heading}\n")
        for entry in entries:
            (name, place), = entry.items()
            doc = api.markdown(reader.file_doc("graft/" + name)).strip().split("\n")[0]
            index.append(f"- [{name}]({relative(place, 'api/index.md')}): {doc}" if doc else f"- [{name}]({relative(place, 'api/index.md')})")
        index.append("")
    write("api/index.md", "\n".join(index))

    # --- pages and examples
    texts = {}
    sources = [p.relative_to(root).as_posix() for p in [*root.glob("*.md"), *(root / "docs").rglob("*.md")]]
    for path in sources:
        texts[site_path(path)] = converted(root, path, reader.headers)
        write(site_path(path), texts[site_path(path)])
    examples = []
    for path in sorted(p for kind in ("*.cpp", "*.cu", "*.c") for p in (root / "examples").glob(kind)):
        code = path.read_text()
        about = " ".join(line[3:] for line in code.split("\n")[1:6] if line.startswith("// ") and not line.startswith("// test"))
        code = re.sub(r"^ *// (\[[a-z_ ]+\]|test:.*|SPDX.*)\n", "", code, flags=re.M)
        place = f"examples/{path.stem}.md"
        write(place, f"# {path.name}\n\n{api.escaped(about)}\n\n```{'c' if path.suffix == '.c' else 'cpp'}\n{code}```\n")
        examples.append({path.name: place})

    for picture in (root / "docs").rglob("*.svg"):
        write(site_path(picture.relative_to(root).as_posix()), picture.read_text())

    # --- the menu
    methods = sorted((p for p in texts if p.startswith("methods/")), key=lambda p: title(texts[p]).lower())
    decisions = sorted(p for p in texts if p.startswith("decisions/") and p != "decisions/index.md")
    menu = [
        {"Start": ["index.md", "start.md", "errors.md", "packages.md", *({"Examples": examples},)]},
        {"Concepts": ["layers.md", "backends.md", "numerics.md", "methods/composition.md", "c.md", "stability.md"]},
        {"Methods": [p for p in methods if p != "methods/composition.md"]},
        {"Routing": ["routing/gates.md", "routing/router.md", "routing/noisy_topk.md", "routing/expert_choice.md", "routing/plan.md", "routing/losses.md", "routing/moe_router.md"]},
        {"Files": ["checkpoints.md", "io.md", "security.md"]},
        {"Project": ["performance.md", "benchmarks.md", "golden.md", "contributing.md", "changelog.md", {"Decisions": ["decisions/index.md", *decisions]}]},
        {"API": ["api/index.md", *({heading: entries} for heading, entries in sections.items() if entries)]},
    ]
    listed = set(re.findall(r'"([^"]+\.md)"', json.dumps(menu)))
    wrong.extend(f"{p} is in no menu: cmake/docs/site.py" for p in texts if p not in listed)

    config = {
        "site_name": "graft", "site_description": "Header-only C++20 primitives for adapters", "docs_dir": str(pages), "site_dir": str(site),
        "use_directory_urls": False, "strict": True, "nav": menu, "extra_css": ["graft.css"],
        "theme": {
            "name": "material", "font": False, "icon": {"logo": "material/source-branch"},
            "features": ["navigation.tabs", "navigation.indexes", "navigation.top", "content.code.copy", "toc.follow"],
            "palette": [
                {"media": "(prefers-color-scheme: light)", "scheme": "default", "primary": "teal", "accent": "teal",
                 "toggle": {"icon": "material/weather-night", "name": "dark"}},
                {"media": "(prefers-color-scheme: dark)", "scheme": "slate", "primary": "teal", "accent": "teal",
                 "toggle": {"icon": "material/weather-sunny", "name": "light"}},
            ],
        },
        "plugins": ["search"],
        "markdown_extensions": ["tables", "fenced_code", "sane_lists", {"toc": {"permalink": True, "slugify": "@github@"}}, "pymdownx.superfences",
                                {"pymdownx.highlight": {"anchor_linenums": False}}],
        "validation": {"nav": {"omitted_files": "warn", "not_found": "warn"},
                       "links": {"not_found": "warn", "anchors": "warn", "absolute_links": "warn", "unrecognized_links": "warn"}},
        "extra": {"generator": False},
    }
    shutil.copy(root / "cmake/docs/graft.css", pages / "graft.css")
    slugs = "!!python/object/apply:pymdownx.slugs.slugify {kwds: {case: lower}}"  # anchors as GitHub makes them
    (out / "mkdocs.yml").write_text(json.dumps(config, indent=1).replace('"@github@"', slugs))  # JSON is YAML
    built = subprocess.run([sys.executable, "-m", "mkdocs", "build", "--quiet", "-f", str(out / "mkdocs.yml")],
                           capture_output=True, text=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "DISABLE_MKDOCS_2_WARNING": "true"})
    if built.returncode != 0:
        wrong.extend(line for line in (built.stdout + built.stderr).split("\n") if line.strip())
    count, links = check_links(site) if site.is_dir() else (0, 0)
    for sentence in wrong:
        print("docs:", sentence)
    print(f"docs: {count} pages, {names} names of the API, {links} links; {len(wrong)} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
