from runtime.llm.timeline import Phase, Timeline


def test_each_phase_is_timed_also_across_preemptions() -> None:
    timeline = Timeline()
    timeline.begin(10.0)
    waiting = [timeline.is_waiting]
    timeline.start(11.0)
    timeline.pause(13.0)  # before its first token: it queues for its prefill again
    waiting.append(timeline.is_waiting)
    timeline.start(16.0)
    timeline.note_first_token(20.0)
    timeline.pause(25.0)
    waiting.append(timeline.is_waiting)
    timeline.start(31.0)
    waiting.append(timeline.is_waiting)
    assert waiting == [True, True, True, False]
    durations_s = timeline.durations_s(38.0)
    assert durations_s[Phase.PREFILL_QUEUE] == 1.0 + 3.0
    assert durations_s[Phase.PREFILL] == 2.0 + 4.0
    assert durations_s[Phase.GENERATION_QUEUE] == 6.0
    assert durations_s[Phase.GENERATION] == 5.0 + 7.0
    assert timeline.durations_s(38.0) == durations_s, "asking changes nothing"
