"""``python -m cfrg.cli``: the ``cfrg`` command where its script is not on the path."""

from cfrg.cli import main

if __name__ == "__main__":
    main(prog_name="cfrg")
