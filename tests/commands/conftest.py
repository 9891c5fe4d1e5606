import shutil
from pathlib import Path

import pytest
import zoo

from edgeport import deploy


@pytest.fixture(scope="session")
def mlp_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A proved bundle of all formats; copy it before you change it."""
    path = tmp_path_factory.mktemp("bundles") / "mlp.edge"
    deploy.export(zoo.make("mlp"), zoo.inputs("mlp"), path, dimensions=zoo.ZOO["mlp"].dimensions)
    return path


@pytest.fixture
def own_bundle(mlp_bundle: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(mlp_bundle, tmp_path / "mlp.edge"))
