from tests.unit.worker.operate.test_forget import *  # noqa: F403 - the tests themselves

# These open the home's own database.
del test_the_command_takes_an_accession_number_asks_first_and_deletes_the_real_files  # noqa: F821
del test_the_command_names_what_is_in_the_way_and_will_not_guess_between_studies  # noqa: F821
