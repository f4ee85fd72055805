"""Which releases of the models answer whom, and how a release on trial does."""

from api.serving.models import ServedModels
from api.serving.routing import Serving

__all__ = ["ServedModels", "Serving"]
