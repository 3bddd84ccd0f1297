from pathlib import Path

import pytest


@pytest.fixture
def put(tmp_path):
    def put(name: str, data: bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return put
