from nasplat.capturing import block as block
from nasplat.errors import NasplatError as NasplatError
from nasplat.exporting import check_export as check_export
from nasplat.exporting import export as export
from nasplat.graph import Graph as Graph
from nasplat.inputs import capture as capture
from nasplat.inputs import load_predictor as load_predictor
from nasplat.inputs import load_table as load_table
from nasplat.inputs import score as score
from nasplat.measuring import measure as measure
from nasplat.predict import Prediction as Prediction
from nasplat.searching import Counted as Counted
from nasplat.searching import Inherited as Inherited
from nasplat.searching import Measured as Measured
from nasplat.searching import Predicted as Predicted
from nasplat.searching import PredictorSampler as PredictorSampler
from nasplat.searching import Tabulated as Tabulated
from nasplat.searching import Trained as Trained
from nasplat.searchspace import Architecture as Architecture
from nasplat.searchspace import Option as Option
from nasplat.searchspace import Pick as Pick
from nasplat.searchspace import Space as Space
from nasplat.searchspace import list_spaces as list_spaces
from nasplat.searchspace import load_space as load_space
from nasplat.searchspace import space as space
from nasplat.study import label as label
from nasplat.study import search as search
from nasplat.supernet import Supernet as Supernet
from nasplat.supernet import TrainConfig as TrainConfig
from nasplat.table import Table as Table
from nasplat.task import Task as Task
from nasplat.task import load_task as load_task
from nasplat.testing import check_predictor as check_predictor
from nasplat.testing import check_space as check_space

__version__: str
__all__: list[str]
