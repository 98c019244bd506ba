"""Searches the model of replicas for a state that is wrong, and tells how it comes about.

make model                                                # as hbtd is
make model MODEL=CYCLES                                   # does it come to rest, too?
make model MODEL="CHECK_ONE CHECK_ONE_TELLER NO_FENCE"    # one property, without a rule
"""

import sys
import tempfile
from pathlib import Path

from tests.support.spin import search, story, why_not


def main(defined: list[str]) -> None:
    """Search the model with these macros defined; exit with status 1 if a state is wrong."""
    reason = why_not()
    if reason is not None:
        sys.exit(reason)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cycles = "CYCLES" in defined
        defined = [each for each in defined if each != "CYCLES"]
        found = search(folder, defined, "-O2", cycles=cycles)
        print(f"{found.states:,} states in {found.seconds:.1f} s")
        if found.violated is not None:
            print(*story(folder, defined), sep="\n")
            sys.exit(found.violated)
        if not found.complete:
            sys.exit(f"the search is not complete: {found.said}")
    print("All properties hold in all states.")


if __name__ == "__main__":
    main(sys.argv[1:])
