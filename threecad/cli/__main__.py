"""``python -m threecad.cli``: the ``threecad`` command where its script is not on the path."""

from threecad.cli import main

if __name__ == "__main__":
    main(prog_name="threecad")
