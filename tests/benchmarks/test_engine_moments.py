from benchmarks.engine_moments import Look, Moment, by_speed
from benchmarks.engine_rows import DECODE, PREFILL


def moment(value: float, before: float, after: float, row: str = PREFILL.name) -> Moment:
    return Moment(row, value, Look(10.0, before), Look(20.0, after))


def test_jobs_are_filed_under_the_speed_of_the_machine_around_them() -> None:
    moments = [moment(1300, 1.3, 1.4), moment(1500, 1.5, 1.6), moment(700, 0.5, 0.5)]
    slow, quick = by_speed(PREFILL, moments)
    assert (slow["matmul_tflops_at_least"], slow["ours"]["median"], slow["ours"]["rounds"]) == (0.3, 700, 1)
    assert (quick["matmul_tflops_at_least"], quick["ours"]["median"], quick["ours"]["rounds"]) == (1.2, 1400, 2)
    assert (quick["matmul_tflops"], quick["read_gb_per_s"]) == (1.45, 20.0)


def test_a_job_between_looks_that_differ_counts_nowhere() -> None:
    assert list(by_speed(PREFILL, [moment(900, 0.5, 1.4), moment(900, 1.4, 0.5)])) == []


def test_each_row_has_its_own_jobs() -> None:
    moments = [moment(900, 1.0, 1.0), moment(100, 1.0, 1.0, DECODE[8].name)]
    (line,) = by_speed(DECODE[8], moments)
    assert (line["row"], line["unit"], line["ours"]["median"]) == ("decode_8", "tok/s", 100)
