"""Checks of the page's files that need no browser."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[3] / "appliance" / "web" / "page"
MODULES = sorted(PAGE.glob("js/**/*.js"))
IMPORT = re.compile(r'^import\s[^;]*?from "(\.[^"]+)";', re.MULTILINE)


def imported(module: Path, seen: set[Path]) -> set[Path]:
    """Follow the imports that a browser must load before the module runs."""
    if module not in seen:
        seen.add(module)
        for name in IMPORT.findall(module.read_text(encoding="utf-8")):
            imported((module.parent / name).resolve(), seen)
    return seen


def test_what_the_queue_needs_is_fetched_at_once() -> None:
    index = (PAGE / "index.html").read_text(encoding="utf-8")
    needed = imported(PAGE / "js/views/queue.js", imported(PAGE / "js/main.js", set()))

    preloaded = re.findall(r'rel="modulepreload" href="/page/([^"]+)"', index)

    assert sorted(preloaded) == sorted(str(module.relative_to(PAGE)) for module in needed)


def test_no_module_imports_itself_by_way_of_others() -> None:
    # Including the views, which are imported when they are shown.
    imports = {
        module: {
            (module.parent / name).resolve()
            for name in re.findall(r'(?:from |import\()"(\.[^"]+)"', module.read_text(encoding="utf-8"))
        }
        for module in MODULES
    }

    while leaves := {module for module, needed in imports.items() if not needed & imports.keys()}:
        imports = {module: needed for module, needed in imports.items() if module not in leaves}

    assert sorted(str(module.relative_to(PAGE)) for module in imports) == []


def test_every_file_that_is_named_exists() -> None:
    places = set()
    for file in [PAGE / "index.html", PAGE / "relume.webmanifest", *PAGE.glob("css/*.css"), *MODULES]:
        places |= set(re.findall(r'"/page/([^"]+)"', file.read_text(encoding="utf-8")))

    assert len(places) > 30
    assert [place for place in sorted(places) if not (PAGE / place).is_file()] == []


@pytest.mark.parametrize("file", [PAGE / "index.html", *MODULES, *PAGE.glob("css/*.css")], ids=lambda path: path.name)
def test_nothing_is_inline_or_comes_from_elsewhere(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    code = "\n".join(line for line in text.splitlines() if not re.match(r"\s*(/?\*|//)", line))

    for forbidden in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "style=", "onclick="):
        assert forbidden not in code, forbidden
    addresses = set(re.findall(r"https?://[\w./]+", code)) - {"http://www.w3.org/2000/svg"}
    assert addresses == set()


def test_the_presets_have_images_of_their_own() -> None:
    from runtime.presets import PRESETS

    sizes = {path.stem: path.stat().st_size for path in PAGE.glob("pictures/*.webp")}

    assert set(sizes) == set(PRESETS)
    assert max(sizes.values()) < 30_000


@pytest.mark.parametrize("catalogue", sorted(PAGE.glob("js/languages/*.js")), ids=lambda path: path.stem)
def test_a_catalogue_has_every_text_once_and_keeps_what_is_filled_in(catalogue: Path) -> None:
    text = catalogue.read_text(encoding="utf-8")
    entries = re.findall(r'^  (?:"((?:[^"\\]|\\.)+)"|(\w+)):\s+"((?:[^"\\]|\\.)*)",$', text, re.MULTILINE)
    keys = [quoted or bare for quoted, bare, _ in entries]

    assert len(keys) > 400
    assert sorted({key for key in keys if keys.count(key) > 1}) == []
    assert [
        key for (quoted, bare, value) in entries if len(re.findall("{#?}", key := quoted or bare)) != value.count("{}")
    ] == []


# Capitalised strings that are not translated: platform names, and texts that are composed of others.
NOT_TEXTS = re.compile(
    r"\W*{}\W*{?}?\W*|[A-Z]+|(Api|Form|Abort)Error|(Content|Upload|Tus)-\w+|X-CSRF-Token|Accept|Arrow\w+|Enter|"
    r"Escape|Relume|Notification|Location|English|Deutsch|Edge?|Firefox|Chrome|Safari|Android|Windows|Mac OS|Linux|"
    r"OpenVINO|TensorRT( RTX)?|[GMT]B|Note:|Set by the {}\.|{} must be {}\.|{} cannot be used|{} ignored \({}{}\)|"
    r"The file was kept as {}, {}\.|{}-\w+|{}px"
)


@pytest.mark.parametrize("catalogue", sorted(PAGE.glob("js/languages/*.js")), ids=lambda path: path.stem)
def test_a_catalogue_translates_every_text_of_the_page(catalogue: Path) -> None:
    text = catalogue.read_text(encoding="utf-8")
    keys = {quoted or bare for quoted, bare in re.findall(r'^  (?:"((?:[^"\\]|\\.)+)"|(\w+)):', text, re.MULTILINE)}
    patterns = [re.compile(re.sub(r"\\{\\?#?\\}", ".+", re.escape(key)), re.DOTALL) for key in keys if "{" in key]
    left = []
    for module in MODULES:
        if module.name in ("icons.js", "language.js", "first-paint.js") or module.parent.name == "languages":
            continue
        lines = module.read_text(encoding="utf-8").splitlines()
        code = "\n".join(line for line in lines if not re.match(r"\s*(/?\*|//|import\b)", line))
        for quoted, template in re.findall(r'"((?:[^"\\\n]|\\.)*)"|`((?:[^`\\]|\\.)*)`', code):
            shown = re.sub(r"\$\{(?:[^{}]|\{[^}]*\})*\}", "{}", quoted or template).strip()
            is_text = re.match(r"[“]?[A-Z{]", shown) and len(re.findall("[A-Za-z]", shown)) > 1
            is_known = shown in keys or any(pattern.fullmatch(shown) for pattern in patterns)
            if is_text and not is_known and not NOT_TEXTS.fullmatch(shown):
                left.append(f"{module.name}: {shown}")

    assert left == []
