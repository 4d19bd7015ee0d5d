"""Parts of the pages that are made from the code. Nothing here asks the network."""

from making.methods import detail, overview
from making.schema import fields, keys
from making.stored import fusions, grids, published_rows, recipes, sets, speed

MAKERS = {
    "methods": overview,
    "family": detail,
    "fields": fields,
    "keys": keys,
    "fusions": fusions,
    "grids": grids,
    "recipes": recipes,
    "datasets": sets,
    "speed": speed,
    "published": published_rows,
}
