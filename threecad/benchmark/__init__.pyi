"""The public names: whoever asks for one imports the module that defines it."""

from .interface import Detector as Detector
from .interface import Trial as Trial
from .reports import Report as Report
from .running import Plan as Plan
from .running import run_benchmark as run_benchmark
from .store import Record as Record
from .store import Store as Store
from .tables import make_report as make_report
