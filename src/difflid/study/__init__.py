"""What the latents of a prior know: of the scene, and of its haze, at every time-step."""

from difflid.study.findings import Study, StudyConfig
from difflid.study.report import sentences, write_report
from difflid.study.run import about, study_prior

__all__ = ["Study", "StudyConfig", "about", "sentences", "study_prior", "write_report"]
