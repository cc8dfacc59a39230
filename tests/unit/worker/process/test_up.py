from worker.process.up import roles
from worker.settings.settings import load_settings


def test_the_listener_is_there_before_the_first_report_is_sent_and_until_after_the_last(tmp_path):
    specs = roles(load_settings(home=tmp_path), {})
    names = [spec.name for spec in specs]

    assert names.index("listen") < names.index("schedule")
    assert {spec.name for spec in specs if spec.stops_last} == {"broker", "listen"}


def test_no_broker_is_started_where_a_redis_is_named(tmp_path):
    specs = roles(load_settings(home=tmp_path, redis_url="redis://127.0.0.1:6379/0"), {})

    assert "broker" not in [spec.name for spec in specs]


def test_no_role_is_killed_before_the_time_it_was_given_to_stop_is_over(tmp_path):
    specs = roles(load_settings(home=tmp_path, stop_seconds=90), {})

    assert all(spec.stop_seconds >= 90 for spec in specs if spec.name != "broker")
