from tests.unit.worker.operate.test_purge import *  # noqa: F403 - the tests themselves

del test_the_command_asks_first_and_deletes_the_real_files  # noqa: F821 - it opens the home's own database
