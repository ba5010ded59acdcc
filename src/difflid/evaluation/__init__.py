"""Numbers that can be trusted and repeated: methods on data sets under a stated protocol, and a report to look at."""

from difflid.evaluation.baselines import BASELINES, Method, command_method, method, open_methods
from difflid.evaluation.custom import CustomMetric, open_metric
from difflid.evaluation.no_reference import no_reference
from difflid.evaluation.protocol import PROTOCOLS, Protocol, named_protocol
from difflid.evaluation.report import write_report
from difflid.evaluation.results import Difference, Results, Row, Summary
from difflid.evaluation.run import EvaluationSet, evaluate, open_set, open_sets

__all__ = [
    "BASELINES",
    "PROTOCOLS",
    "CustomMetric",
    "Difference",
    "EvaluationSet",
    "Method",
    "Protocol",
    "Results",
    "Row",
    "Summary",
    "command_method",
    "evaluate",
    "method",
    "named_protocol",
    "no_reference",
    "open_methods",
    "open_metric",
    "open_set",
    "open_sets",
    "write_report",
]
