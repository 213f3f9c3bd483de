"""``python -m threecad.cli``: the ``threecad`` command where its script is not on the path."""

from threecad.cli import main

main(prog_name="threecad")
