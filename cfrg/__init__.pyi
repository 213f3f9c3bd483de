"""The public names: whoever asks for one imports the module that defines it."""

from .inference.policy import DecisionPolicy as DecisionPolicy
from .inference.predictor import Predictor as Predictor
from .memory.neighbours import NearestNeighbourMemory as NearestNeighbourMemory
from .network.config import CFRGConfig as CFRGConfig
from .network.model import CFRG as CFRG
from .network.model import CFRGOutput as CFRGOutput
from .training.loop import TrainingOptions as TrainingOptions
from .training.loop import fit as fit

__version__: str
