import pytest


@pytest.fixture(autouse=True)
def in_the_root(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Places in the user's code are told from where they stand."""
    monkeypatch.chdir(request.config.rootpath)
