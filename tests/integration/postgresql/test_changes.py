from tests.unit.worker.operate.test_changes import *  # noqa: F403 - the tests themselves

del test_the_command_prints_writes_and_says_where_there_is_nothing  # noqa: F821 - it opens the home's own database
