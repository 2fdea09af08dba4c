"""Files of the page: bakit's own, and onnxruntime-web's, which npm installs."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from bakit.errors import MissingProgramError

if TYPE_CHECKING:
    from bakit.bench.phone.messages import Provider

VARIABLE = "BAKIT_WEB_RUNTIME"
"""Environment variable with the folder that holds ``node_modules``."""

PACKAGE = "onnxruntime-web"

PAGE = Path(__file__).parents[1] / "web"
"""bakit's own files: the page, and the package files for npm."""

PAGE_FILES = ("index.html", "style.css", "icon.svg", "clock.mjs", "app.mjs", "worker.mjs")

_MODULES = {
    "wasm": ("ort.wasm.min.mjs", "ort-wasm-simd-threaded"),
    "webgpu": ("ort.webgpu.min.mjs", "ort-wasm-simd-threaded.asyncify"),
    "webnn": ("ort.webgpu.min.mjs", "ort-wasm-simd-threaded.asyncify"),
}


def wanted_version() -> str:
    """Return the version of onnxruntime-web in ``package.json``."""
    package = json.loads((PAGE / "package.json").read_text(encoding="utf-8"))
    version: str = package["dependencies"][PACKAGE]
    return version


def cache_folder() -> Path | None:
    """Return the user's folder for npm packages, outside of Python's packages; None without one."""
    base = os.environ.get("LOCALAPPDATA") or os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "bakit" / "web"
    except RuntimeError:  # HOME is not set, and the user has no account
        return None


def find_runtime() -> Path:
    """Return the folder with onnxruntime-web's files.

    If ``$BAKIT_WEB_RUNTIME`` is set, only that folder is searched; otherwise the folder of the
    page (in a checkout), then the user's cache.

    Raises:
        MissingProgramError: If it is not installed, or has another version.
    """
    chosen = os.environ.get(VARIABLE)
    folders = [Path(chosen)] if chosen else [PAGE, cache_folder()]
    wanted = wanted_version()
    others = []
    for folder in filter(None, folders):
        package = folder / "node_modules" / PACKAGE
        try:
            content = json.loads((package / "package.json").read_text(encoding="utf-8"))
            version = content["version"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if version == wanted:
            return package / "dist"
        others.append(f"{version} in {folder}")
    where = Path(chosen) if chosen else cache_folder()
    found = f"; found {', '.join(others)}" if others else ""
    need = f"{PACKAGE} {wanted}, which runs the models in a browser, is not installed{found}"
    if where is None:
        remedy = (
            f"this user has no home folder; set HOME, or {VARIABLE} to the folder of an install"
        )
        raise MissingProgramError(need, remedy)
    raise MissingProgramError(need, install_command(where))


def install_command(folder: Path) -> str:
    """Return the command that installs onnxruntime-web into a folder."""
    to, page = shlex.quote(str(folder)), shlex.quote(str(PAGE))
    copy = "" if folder == PAGE else f"mkdir -p {to} && cp {page}/package*.json {to} && "
    return f"{copy}npm ci --ignore-scripts --prefix {to}"


def runtime_module(provider: Provider) -> str:
    """Return the name of the module that the page imports."""
    return _MODULES[provider][0]


def page_files(provider: Provider) -> dict[str, Path]:
    """Return the files of the page by their path below the token; raises as the two below."""
    files = {name: PAGE / name for name in PAGE_FILES} | {"": PAGE / "index.html"}
    found = runtime_files(provider, find_runtime())
    return files | {f"ort/{name}": path for name, path in found.items()}


def runtime_files(provider: Provider, dist: Path) -> dict[str, Path]:
    """Return the files of onnxruntime-web that a provider needs, by their name below ``ort/``.

    Raises:
        MissingProgramError: If a file is missing, such as after an interrupted install.
    """
    module, binary = _MODULES[provider]
    files = {name: dist / name for name in (module, f"{binary}.mjs", f"{binary}.wasm")}
    missing = [name for name, path in files.items() if not path.is_file()]
    if missing:
        need = f"{dist}: {', '.join(missing)} missing; install {PACKAGE} again"
        raise MissingProgramError(need, install_command(dist.parents[2]))
    return files
