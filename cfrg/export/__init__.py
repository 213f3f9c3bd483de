"""A trained run as one file for a runtime: an image in; anomaly map, score and decision out.

``graph`` is what is exported, with ``tiles`` for a run that has them; ``quantization`` turns it to
integers, and ``writing`` has it written and held against the model it came from, on the images of
``material``, by ``cfrg.runtimes``.
"""
