"""Pictures, folders and video through a dehazer."""

from difflid.inference.files import FileFailure, FileReport, Settings, dehaze_file, dehaze_files
from difflid.inference.plan import Job, is_done, plan_outputs

__all__ = [
    "FileFailure",
    "FileReport",
    "Job",
    "Settings",
    "dehaze_file",
    "dehaze_files",
    "is_done",
    "plan_outputs",
]
