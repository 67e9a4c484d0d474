from tests.unit.small_search import make_task, one_thread  # noqa: F401 - fixtures
