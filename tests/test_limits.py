"""The quotas: AWS's numbers where they are AWS's, and one table from which the docs are made."""

from __future__ import annotations

from pyfaas import limits


def test_the_numbers_that_are_awss_own() -> None:
    assert limits.REQUEST_BYTES == 6 * limits.MB
    assert limits.RESPONSE_BYTES == 6 * limits.MB + 100
    assert limits.MEMORY_MB == (128, 10_240)
    assert limits.EPHEMERAL_STORAGE_MB == (512, 10_240)
    assert limits.TIMEOUT_SECONDS[1] == 900
    assert limits.ENVIRONMENT_BYTES == 4_096
    assert limits.CONCURRENCY == 1_000
    assert limits.INIT_SECONDS == 10
    assert limits.LOG_TAIL_BYTES == 4_096


def test_every_line_of_the_table_is_filled_in_and_named_once() -> None:
    assert len({quota.name for quota in limits.QUOTAS}) == len(limits.QUOTAS)
    for quota in limits.QUOTAS:
        assert all(cell.strip() for cell in quota), quota


def test_the_table_says_what_the_constants_say() -> None:
    table = {quota.name: quota.ours for quota in limits.QUOTAS}
    assert table["event"] == f"{limits.REQUEST_BYTES:,}"
    assert table["result"] == f"{limits.RESPONSE_BYTES:,}"
    assert table["nesting of events and results"] == str(limits.NESTING)
    assert table["memory"].startswith("{:,} to {:,}".format(*limits.MEMORY_MB))
    assert table["timeout"].startswith("{:g} to {:g}".format(*limits.TIMEOUT_SECONDS))
    assert table["concurrency"] == f"{limits.CONCURRENCY:,}"
    assert table["keep_alive"] == f"{limits.KEEP_ALIVE_SECONDS:g}"
