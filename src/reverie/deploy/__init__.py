"""A trained policy outside Reverie: its acting function in a format that others run."""

from reverie.deploy.acting import ActingFunction, acting_function
from reverie.deploy.formats import FORMATS, export

__all__ = ["FORMATS", "ActingFunction", "acting_function", "export"]
