"""When and how ranks change: schedule, controller, trace, and the hook into any training loop."""

from rankadapt.control.attach import Attachment, attach
from rankadapt.control.controller import Controller
from rankadapt.control.options import ControlOptions
from rankadapt.control.rates import Rates
from rankadapt.control.schedule import Schedule, Timetable
from rankadapt.control.trace import Trace

__all__ = ["Attachment", "ControlOptions", "Controller", "Rates", "Schedule", "Timetable", "Trace", "attach"]
