import pytest

pytest.register_assert_rewrite("undiffuse.contracts")  # so that a failed check shows its values
