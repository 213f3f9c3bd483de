"""The public names: whoever asks for one imports the module that defines it."""

from .auditing import Audit as Audit
from .auditing import audit as audit
from .auditing.corrections import write_errata as write_errata
from .dataset.catalog import CATEGORIES as CATEGORIES
from .dataset.catalog import Category as Category
from .dataset.errata import Errata as Errata
from .dataset.errata import read_errata as read_errata
from .dataset.findings import Finding as Finding
from .dataset.pytorch import ThreeCAD as ThreeCAD
from .dataset.scanning import Index as Index
from .dataset.scanning import Sample as Sample
from .dataset.scanning import scan as scan
from .dataset.split_files import SplitFile as SplitFile
from .dataset.split_files import read_split as read_split
from .dataset.splitting import split as split
from .diagnosis import diagnose as diagnose
from .errors import ThreecadError as ThreecadError
from .evaluation.pipeline import evaluate as evaluate
from .evaluation.predictions import PredictionWriter as PredictionWriter
from .evaluation.results import Result as Result
from .fetching import download as download
from .formats import convert as convert
from .hub import load_dataset as load_dataset
from .images.encodings import mask_to_polygons as mask_to_polygons
from .images.encodings import mask_to_rle as mask_to_rle
from .images.encodings import polygons_to_mask as polygons_to_mask
from .images.encodings import rle_to_mask as rle_to_mask
from .images.masks import DecodedMask as DecodedMask
from .images.masks import decode_mask as decode_mask
from .images.masks import read_mask as read_mask
from .images.regions import Region as Region
from .images.regions import enclosing_rectangle as enclosing_rectangle
from .images.regions import label_regions as label_regions
from .images.regions import regions as regions
from .images.resizing import resize_mask as resize_mask
from .metrics import Evaluator as Evaluator
from .pages.gallery import write_gallery as write_gallery
from .procedural import write_sample as write_sample
from .statistics import DefectStatistics as DefectStatistics
from .statistics import stats as stats
from .verification import verify as verify

__version__: str
