"""The table of docs/reliability.md from records of test_fuzz.py: python tests/reliability/fuzz_table.py RECORD…"""

import json
import sys
from pathlib import Path

from strategies import FAMILIES


def table(records):
    """Lines of Markdown, one for each family and one for all: operators tested, examples that ran to their end,
    operators with an example that failed."""
    rows = []
    for family, names in FAMILIES.items():
        found = [records[name] for name in names if name in records]
        rows.append((family, len(found), len(names), *(sum(each[k] for each in found) for k in ("examples", "failed"))))
    rows.append(("all", *(sum(column) for column in list(zip(*rows, strict=True))[1:])))
    lines = [f"| {name} | {found} of {known} | {count:,} | {failed} |" for name, found, known, count, failed in rows]
    return ["| family | operators | examples | operators that failed |", "|---|---|---|---|", *lines]


if __name__ == "__main__":
    records = {}
    for path in sys.argv[1:]:
        records |= json.loads(Path(path).read_text())
    print("\n".join(table(records)))
