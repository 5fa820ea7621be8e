"""What all pages share: the frame of a document that loads nothing, and files that are whole or not there."""

from __future__ import annotations

import html
import os
from pathlib import Path

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""Nothing is loaded and nothing runs."""


def document(title: str, style: str, body: str, *, policy: str = POLICY, kind: str = "") -> str:
    """An HTML document of its own: `title` as text, `style` as CSS, `body` as HTML; `kind` is the body's class."""
    of_kind = f' class="{kind}"' if kind else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">'
        f"<title>{html.escape(title)} · scar_ray</title><style>{style}</style></head>"
        f"<body{of_kind}>{body}</body></html>\n"
    )


def write_whole(file: Path, text: str) -> Path:
    """Writes the file, and the folders above it, so that nobody finds half of it; returns its path."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(file.name + ".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, file)
    return file
