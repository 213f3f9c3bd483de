"""Does production still look as it did at calibration? Tests with a stated false-alarm rate."""
