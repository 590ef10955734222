"""Data at run time: sources are read, transformed and handed out as batches on the device."""

from netspec.catalog.sources import FieldInfo
from netspec.runtime.data.batches import Batch
from netspec.runtime.data.files import preprocess_files, preprocess_values
from netspec.runtime.data.opening import Data, open_data
from netspec.runtime.data.streams import Stream

__all__ = ["Batch", "Data", "FieldInfo", "Stream", "open_data", "preprocess_files", "preprocess_values"]
