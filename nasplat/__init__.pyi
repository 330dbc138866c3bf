"""The public names of nasplat and where they live; `nasplat/__init__.py` loads each on first use."""

from .errors import NasplatError as NasplatError
from .frontends import block as block
from .frontends import read_published as read_published
from .frontends import rebuild as rebuild
from .graph import Graph as Graph
from .graph.drawing import draw as draw
from .graph.drawing import draw_diff as draw_diff
from .inputs import capture as capture
from .inputs import load_predictor as load_predictor
from .inputs import load_table as load_table
from .inputs import load_task as load_task
from .predict import Prediction as Prediction
from .probes import measure as measure
from .probes import proxies as proxies
from .runs import write_report as write_report
from .searchspace import Architecture as Architecture
from .searchspace import Option as Option
from .searchspace import Pick as Pick
from .searchspace import Space as Space
from .searchspace import list_spaces as list_spaces
from .searchspace import load_space as load_space
from .searchspace import space as space
from .searchspace import space_of_trial as space_of_trial
from .study import Counted as Counted
from .study import EvolutionSampler as EvolutionSampler
from .study import FrontPruner as FrontPruner
from .study import Inherited as Inherited
from .study import LocalSearchSampler as LocalSearchSampler
from .study import Measured as Measured
from .study import Predicted as Predicted
from .study import PredictedLatency as PredictedLatency
from .study import PredictorSampler as PredictorSampler
from .study import Tabulated as Tabulated
from .study import Trained as Trained
from .study import UniqueRandomSampler as UniqueRandomSampler
from .study.search import search as search
from .study.stages import search_in_stages as search_in_stages
from .supernet import Strategy as Strategy
from .supernet import Supernet as Supernet
from .supernet import TrainConfig as TrainConfig
from .tables.table import Table as Table
from .task import Task as Task
from .testing import check_predictor as check_predictor
from .testing import check_space as check_space
from .workflows.calibrate import calibrate as calibrate
from .workflows.export import check_export as check_export
from .workflows.export import export as export
from .workflows.improve import improve as improve
from .workflows.label import label as label
from .workflows.score import score as score

__version__: str
__all__: list[str]
