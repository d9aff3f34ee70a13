"""Writes an exploration as a page, as JSON and as CSV."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import fields

from audit.records.inside.exploration import Exploration, Move, Score
from audit.records.inside.open_set import OpenSet
from audit.storage.files import storage_of
from audit.storage.place import Place
from reports.exploration.open_set import open_set_csv_rows
from reports.exploration.page import render
from reports.exploration.pictures import pictures_csv
from reports.exploration.stress import stress_csv

PAGE, RESULT = "exploration.html", "exploration.json"
SCORES, SIMILARITIES, MOVES = "scores.csv", "similarities.csv", "moves.csv"
FINDINGS, STRESS, PICTURES = "findings.csv", "stress.csv", "pictures.csv"


def write_files(found: Exploration, place: Place) -> Place:
    """Write all files, each atomically, and return the place of the page.

    Args:
        found: The exploration.
        place: Its directory.
    """
    storage = storage_of(place)
    storage.write(SCORES, scores_csv(found).encode())
    if found.similarities is not None:
        storage.write(SIMILARITIES, similarities_csv(found).encode())
    if found.moves:
        storage.write(MOVES, moves_csv(found).encode())
    if found.open_set is not None:
        storage.write(FINDINGS, findings_csv(found.open_set).encode())
    if found.stress is not None:
        storage.write(STRESS, stress_csv(found.stress).encode())
    if found.pictures is not None:
        storage.write(PICTURES, pictures_csv(found.pictures).encode())
    storage.write(RESULT, (json.dumps(found.as_data(), indent=1) + "\n").encode())
    storage.write(PAGE, render(found).encode())
    return place / PAGE


def scores_csv(found: Exploration) -> str:
    """Return a row for each prompt and axis."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = [field.name for field in fields(Score)]
    writer.writerow([*columns, "text"])
    for score in found.scores:
        writer.writerow([*(getattr(score, name) for name in columns), found.texts[score.prompt]])
    return text.getvalue()


def moves_csv(found: Exploration) -> str:
    """Return a row for each prompt, modifier and axis."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = [field.name for field in fields(Move)]
    writer.writerow(columns)
    writer.writerows([getattr(move, name) for name in columns] for move in found.moves)
    return text.getvalue()


def findings_csv(found: OpenSet) -> str:
    """Return a row for each open-set finding."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(open_set_csv_rows(found))
    return text.getvalue()


def similarities_csv(found: Exploration) -> str:
    """Return a row for each prompt, with a cosine for each descriptor; empty without descriptors."""
    text = io.StringIO()
    if found.similarities is not None:
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["prompt", *found.similarities.descriptors])
        for prompt, cosines in found.similarities.cosines.items():
            writer.writerow([prompt, *cosines])
    return text.getvalue()
