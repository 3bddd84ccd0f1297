"""Datasets, entered in `registry.DATASETS`; transforms, splits, and batches without end."""

from undiffuse.data import transforms
from undiffuse.data.arrays import npz
from undiffuse.data.cifar import cifar
from undiffuse.data.dataset import Dataset, Item, Subset, Unusable, subrange
from undiffuse.data.faces import celeba, celeba_hq, ffhq
from undiffuse.data.folder import folder
from undiffuse.data.idx import idx
from undiffuse.data.lsun import lsun
from undiffuse.data.named import public
from undiffuse.data.order import Order
from undiffuse.data.split import split
from undiffuse.data.stream import Batch, Skips, Stream, collate
from undiffuse.data.transforms import prepare

__all__ = [
    "Batch",
    "Dataset",
    "Item",
    "Order",
    "Skips",
    "Stream",
    "Subset",
    "Unusable",
    "celeba",
    "celeba_hq",
    "cifar",
    "collate",
    "ffhq",
    "folder",
    "idx",
    "lsun",
    "npz",
    "prepare",
    "public",
    "split",
    "subrange",
    "transforms",
]
