"""Pictures, folders and video through a dehazer."""

from difflid.inference.files import dehaze_file, dehaze_files
from difflid.inference.picture import dehaze
from difflid.inference.plan import Job, plan_outputs, undone
from difflid.inference.settings import FileFailure, FileReport, Settings
from difflid.inference.steady import Steady, dehaze_frames
from difflid.inference.watch import watch_folder

__all__ = [
    "FileFailure",
    "FileReport",
    "Job",
    "Settings",
    "Steady",
    "dehaze",
    "dehaze_file",
    "dehaze_files",
    "dehaze_frames",
    "plan_outputs",
    "undone",
    "watch_folder",
]
