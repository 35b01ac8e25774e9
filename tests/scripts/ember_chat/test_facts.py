from scripts.ember_chat.facts import HELD_OUT_MIN, Question, held_out_questions, load_facts, normalise


def test_there_are_a_few_hundred_facts_with_names_of_their_own() -> None:
    names = [fact.id for fact in load_facts()]
    assert len(set(names)) == len(names) > 300


def test_every_fact_has_trained_and_held_out_wordings() -> None:
    for fact in load_facts():
        assert len(fact.held_out) >= HELD_OUT_MIN, fact.id
        assert len(fact.trained) > len(fact.held_out), fact.id


def test_no_wording_asks_for_two_facts() -> None:
    owners: dict[str, set[str]] = {}
    for fact in load_facts():
        for wording in fact.trained + fact.held_out:
            owners.setdefault(normalise(wording), set()).add(fact.id)
    assert not {wording: names for wording, names in owners.items() if len(names) > 1}


def test_no_held_out_wording_is_trained_in_other_spelling() -> None:
    for fact in load_facts():
        assert not {normalise(wording) for wording in fact.trained} & {normalise(wording) for wording in fact.held_out}


def test_each_answer_answers_its_own_held_out_questions() -> None:
    for fact in load_facts():
        for wording in fact.held_out:
            assert Question(wording, fact.key).is_answered_by(fact.answer), fact.id


def test_a_key_inside_a_longer_word_is_no_answer() -> None:
    question = Question("What is 1 plus 1?", "is 2")
    assert question.is_answered_by("1 plus 1 is 2.")
    assert not question.is_answered_by("1 plus 1 is 20.")


def test_the_split_is_always_the_same() -> None:
    questions = held_out_questions()
    load_facts.cache_clear()
    assert held_out_questions() == questions
