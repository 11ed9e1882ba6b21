"""The contracts of front-ends, back-ends, losses and data sources as tests, for musictag's own parts and for plug-ins.

    @pytest.mark.parametrize("check", musictag.testing.parts.FRONTEND_CHECKS)
    def test_my_front_end(check):
        check({"_target_": "my_package.MyFrontEnd", "filters": 8})

``check_frontend``, ``check_backend``, ``check_loss`` and ``check_source`` run all checks of one kind. A front-end or
back-end is given as its spec, the dictionary of plain values that is in its YAML file. What is not as it must be raises
AssertionError.
"""

from musictag.testing.losses import LOSS_CHECKS, check_loss
from musictag.testing.parts import BACKEND_CHECKS, FRONTEND_CHECKS, check_backend, check_frontend, check_pair
from musictag.testing.sources import check_source

__all__ = [
    "BACKEND_CHECKS", "FRONTEND_CHECKS", "LOSS_CHECKS", "check_backend", "check_frontend", "check_loss", "check_pair",
    "check_source",
]  # fmt: skip
