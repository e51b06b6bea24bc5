import logging

from appliance.maintenance.logs import log_to_file, rotate


def test_the_log_is_rotated_and_old_files_are_dropped(tmp_path):
    logger = logging.getLogger("relume.test")
    with log_to_file(tmp_path, size_bytes=2000, kept=2) as path:
        for number in range(300):
            logger.info("line %d \udcff", number)

    assert sorted(file.name for file in path.parent.iterdir()) == ["relume.log", "relume.log.1", "relume.log.2"]
    assert all(file.stat().st_size <= 2000 for file in path.parent.iterdir())
    assert r"line 299 \udcff" in path.read_text()


def test_nothing_is_logged_after_the_block(tmp_path):
    level = logging.getLogger().level
    with log_to_file(tmp_path) as path:
        logging.getLogger("relume.test").info("inside")
    logging.getLogger("relume.test").error("outside")

    assert "outside" not in path.read_text()
    assert logging.getLogger().level == level


def test_a_long_log_of_others_is_set_aside(tmp_path):
    path = tmp_path / "workers.log"
    assert rotate(path, size_bytes=10) == path
    path.write_text("short")
    rotate(path, size_bytes=10)
    assert path.read_text() == "short"

    path.write_text("long enough")
    rotate(path, size_bytes=10)

    assert not path.exists()
    assert (tmp_path / "workers.log.1").read_text() == "long enough"
