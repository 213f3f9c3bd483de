"""A trained run as one file for a runtime: an image in; anomaly map, score and decision out.

``graph`` is what is exported, ``formats`` writes it, ``quantization`` turns it to integers,
``parity`` holds it against the model it came from, and ``writing`` does all that in turn.
"""
